// Runs oidc-provider on loopback. Each line on standard input is a JSON object, all parts of which may be missing:
// `subject`: the user to sign in; `make`: keys to make anew ({kid: algorithm}); `signing` and `published`: the kids of
// the keys that it signs with and that it publishes. Each line gets one line as answer; the first line is the port.

import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import Provider from 'oidc-provider';

const algorithms = 'RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA Ed25519 HS256'.split(' ');
const curves = { ES256: 'P-256', ES384: 'P-384', ES512: 'P-521' };
const secret = 's3cret:/?& of at least 32 bytes for HS256';
// Ports of native clients may differ (RFC 8252, section 7.3): each test's server has its own.
const done = ['http://127.0.0.1/sign-in/oidc/done', 'http://127.0.0.1/chat/sign-in/oidc/done'];
const client = { application_type: 'native', redirect_uris: done };
const clients = [
  ...algorithms.map((alg) => ({ client_id: `chatkeep ${alg}`, client_secret: secret, id_token_signed_response_alg: alg })),
  { client_id: 'public', token_endpoint_auth_method: 'none' },
];
const refused = { error: 'access_denied' };
const keys = {};
let subject = 'alice';
let signing;
let published;

function made(alg, kid) {
  const curve = curves[alg];
  const { privateKey } = curve
    ? generateKeyPairSync('ec', { namedCurve: curve })
    : alg.startsWith('Ed')
      ? generateKeyPairSync('ed25519')
      : generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid, use: 'sig' };
}

function providerWith(kids) {
  const provider = new Provider(`http://127.0.0.1:${server.address().port}`, {
    clients: clients.map((one) => ({ ...client, ...one })),
    jwks: { keys: kids.map((kid) => keys[kid]) },
    cookies: { keys: ['a cookie key'] },
    enabledJWA: { idTokenSigningAlgValues: algorithms },
    features: { devInteractions: { enabled: false } },
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    async loadExistingGrant({ oidc }) {
      const given = oidc.session.grantIdFor(oidc.client.clientId);
      if (given) return provider.Grant.find(given);
      const grant = new provider.Grant({ clientId: oidc.client.clientId, accountId: oidc.session.accountId });
      grant.addOIDCScope('openid');
      await grant.save();
      return grant;
    },
  });
  const answer = provider.callback();
  return (request, response) =>
    request.url.startsWith('/interaction/')
      ? provider.interactionFinished(request, response, subject ? { login: { accountId: subject }, consent: {} } : refused)
      : answer(request, response);
}

const server = createServer((request, response) => (request.url === '/jwks' ? published : signing)(request, response));
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
createInterface({ input: process.stdin })
  .on('line', (line) => {
    const change = JSON.parse(line);
    subject = change.subject ?? subject;
    for (const [kid, alg] of Object.entries(change.make ?? {})) keys[kid] = made(alg, kid);
    if (change.signing) signing = providerWith(change.signing);
    if (change.published) published = providerWith(change.published);
    console.log('done');
  })
  .on('close', () => process.exit());
