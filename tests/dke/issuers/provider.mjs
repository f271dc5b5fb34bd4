// oidc-provider, a certified implementation of OpenID Connect. Prints its issuer.
// Programs get tokens by the client `tests`, for whoever they say they act for
// (`user`); people get them by the client `desk` and the device flow (RFC 8628),
// as whoever their browser's cookie `person` says that they are. Either is for
// whatever is named as `resource`.
import { createServer } from 'node:http';
import { generateKeyPairSync } from 'node:crypto';
import Provider from 'oidc-provider';

const server = createServer();
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const issuer = `http://127.0.0.1:${server.address().port}`;

const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const key = { ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256', kid: 'provider' };

const provider = new Provider(issuer, {
    jwks: { keys: [key] },
    cookies: { keys: ['of the tests'] },
    clients: [
        {
            client_id: 'tests',
            client_secret: 'a secret of the tests',
            grant_types: ['client_credentials'],
            token_endpoint_auth_method: 'client_secret_post',
            redirect_uris: [],
            response_types: [],
        },
        {
            client_id: 'desk',
            grant_types: ['urn:ietf:params:oauth:grant-type:device_code', 'refresh_token'],
            token_endpoint_auth_method: 'none',
            redirect_uris: [],
            response_types: [],
        },
    ],
    features: {
        devInteractions: { enabled: false },
        clientCredentials: { enabled: true },
        deviceFlow: { enabled: true },
        resourceIndicators: {
            enabled: true,
            getResourceServerInfo: (_context, resource) => ({
                scope: 'decrypt',
                audience: resource,
                accessTokenFormat: 'jwt',
                jwt: { sign: { alg: 'RS256' } },
            }),
        },
    },
    findAccount: (_context, accountId) => ({ accountId, claims: () => ({ sub: accountId }) }),
    // Whoever logs in consents to what is asked for.
    loadExistingGrant: async ({ oidc }) => {
        const { accountId } = oidc.session;
        const grant = new oidc.provider.Grant({ accountId, clientId: oidc.client.clientId });
        grant.addOIDCScope('openid offline_access');
        grant.addResourceScope(oidc.params.resource, 'decrypt');
        await grant.save();
        return grant;
    },
    extraTokenClaims: ({ oidc }, token) => ({ upn: token.accountId ?? oidc.body.user }),
    extraParams: ['user'],
});

async function logIn(request, response) {
    const [, accountId] = /person=([^;]+)/.exec(request.headers.cookie);
    await provider.interactionFinished(request, response, { login: { accountId } });
}

const others = provider.callback();
server.on('request', (request, response) => {
    const answer = request.url.startsWith('/interaction/') ? logIn : others;
    answer(request, response);
});
console.log(issuer);
