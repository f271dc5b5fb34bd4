// oidc-provider, a certified implementation of OpenID Connect. Prints its issuer;
// the client `tests` gets tokens for whatever it names as `resource`.
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
    clients: [
        {
            client_id: 'tests',
            client_secret: 'a secret of the tests',
            grant_types: ['client_credentials'],
            token_endpoint_auth_method: 'client_secret_post',
            redirect_uris: [],
            response_types: [],
        },
    ],
    features: {
        devInteractions: { enabled: false },
        clientCredentials: { enabled: true },
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
    // What people have; a program says it of itself here.
    extraTokenClaims: (context) => ({ upn: context.oidc.body.user }),
    extraParams: ['user'],
});
server.on('request', provider.callback());
console.log(issuer);
