// An OpenID provider on this machine, with two clients: one with a secret, whose tokens are signed with RS256, and a public
// one with ES256. Whoever types a name is that person, with the groups that stand behind it: `alice+manager`.

import { generateKeyPairSync } from "node:crypto";
import Provider from "oidc-provider";

const [port, base, secret] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const jwk = (type, options, kid) => ({ ...generateKeyPairSync(type, options).privateKey.export({ format: "jwk" }), kid, use: "sig" });

const provider = new Provider(issuer, {
  clients: [
    { client_id: "salon", client_secret: secret, redirect_uris: [`${base}/login/oidc/birds/callback`] },
    {
      client_id: "salon-public",
      redirect_uris: [`${base}/login/oidc/nest/callback`],
      token_endpoint_auth_method: "none",
      id_token_signed_response_alg: "ES256",
    },
  ],
  jwks: { keys: [jwk("rsa", { modulusLength: 2048 }, "r"), jwk("ec", { namedCurve: "P-256" }, "e")] },
  cookies: { keys: ["only for a test on this machine"] },
  claims: { openid: ["sub"], profile: ["name", "groups"], email: ["email"] },
  // As providers do that people have.
  conformIdTokenClaims: false,
  pkce: { required: () => true },
  findAccount: (_, id) => {
    const [name, ...groups] = id.split("+");
    return { accountId: id, claims: () => ({ sub: id, name, email: `${name}@birds.example`, groups }) };
  },
});
// What goes wrong there is to be read here.
for (const event of ["server_error", "grant.error", "authorization.error"]) provider.on(event, (_, error) => console.error(event, error.message, error.error_description));
provider.listen(Number(port), "127.0.0.1", () => console.log(`the provider is at ${issuer}`));
