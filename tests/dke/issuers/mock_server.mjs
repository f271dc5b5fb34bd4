// oauth2-mock-server, which tests of other projects have in the place of Entra ID.
// Prints its issuer; whoever asks for a token says for whom (`user`) and what for
// (`resource`).
import { OAuth2Server } from 'oauth2-mock-server';

const server = new OAuth2Server();
await server.issuer.keys.generate('RS256');
server.service.on('beforeTokenSigning', (token, request) => {
    token.payload.aud = request.body.resource;
    token.payload.upn = request.body.user;
});
await server.start(0, '127.0.0.1');
const { port } = server.address();
server.issuer.url = `http://127.0.0.1:${port}`;
console.log(server.issuer.url);
