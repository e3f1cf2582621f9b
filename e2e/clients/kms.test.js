// A master key that AWS KMS keeps: the real program against moto's KMS, which checks signatures as AWS does.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { freePort, Program, python, salon } from "./stage.mjs";

const REGION = "eu-west-1";
const POLICY = { Version: "2012-10-17", Statement: [{ Effect: "Allow", Action: "kms:Decrypt", Resource: "*" }] };

let moto, endpoint, folder, access;
/** What KMS made of a master key as text, of one as 32 bytes, and of one that can be guessed. */
const wrapped = {};

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "salon-kms-"));
  const port = await freePort();
  endpoint = `http://127.0.0.1:${port}`;
  // What it says goes where we listen.
  const server = `import sys; sys.stderr = sys.stdout; from moto.server import main; main(["-H", "127.0.0.1", "-p", "${port}"])`;
  moto = new Program(python, ["-c", server]);
  await moto.says(/Running on http/);

  await iam({ Action: "CreateUser", UserName: "salon" });
  await iam({ Action: "PutUserPolicy", UserName: "salon", PolicyName: "decrypt", PolicyDocument: JSON.stringify(POLICY) });
  const made = await iam({ Action: "CreateAccessKey", UserName: "salon" });
  access = { id: made.match(/<AccessKeyId>(.*?)</)[1], secret: made.match(/<SecretAccessKey>(.*?)</)[1] };

  const { KeyMetadata } = await kms("CreateKey", {});
  const wrap = async (bytes) => (await kms("Encrypt", { KeyId: KeyMetadata.KeyId, Plaintext: bytes.toString("base64") })).CiphertextBlob;
  const bytes = randomBytes(32);
  wrapped.bytes = await wrap(bytes);
  wrapped.text = await wrap(Buffer.from(`${bytes.toString("base64url")}\n`));
  wrapped.other = await wrap(randomBytes(32));
  wrapped.weak = await wrap(Buffer.alloc(32, 7));
  // From here on nobody may do anything without a signature that is right.
  await fetch(`${endpoint}/moto-api/reset-auth`, { method: "POST", body: "0" });
});

after(async () => {
  await moto?.end("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
});

test("what KMS wraps is the master key, be it bytes or text", () => {
  const first = start({ MASTER_KEY_KMS_CIPHERTEXT: wrapped.bytes });
  assert.equal(first.status, 0, first.stderr);
  assert.match(first.stdout, /encrypts and decrypts {2}wraps 1 data keys/);
  const again = start({ MASTER_KEY_KMS_CIPHERTEXT: wrapped.text });
  assert.equal(again.status, 0, again.stderr);
  assert.equal(again.stdout, first.stdout);
});

test("another master key, and one that can be guessed, keep it from starting", () => {
  const before = readFileSync(join(folder, "data", "salon.db"));
  for (const name of ["other", "weak"]) {
    const refused = start({ MASTER_KEY_KMS_CIPHERTEXT: wrapped[name] });
    assert.equal(refused.status, 78, refused.stderr);
  }
  assert.deepEqual(readFileSync(join(folder, "data", "salon.db")), before);
});

test("a wrong signature, a wrong ciphertext and a KMS that is away are told apart, and nothing secret is told", () => {
  const secret = start({ AWS_SECRET_ACCESS_KEY: "CANARY-not-the-secret" });
  assert.match(secret.stderr, /KMS refused: 403/);
  const ciphertext = start({ MASTER_KEY_KMS_CIPHERTEXT: "Q0FOQVJZ" });
  assert.match(ciphertext.stderr, /KMS refused: 400/);
  const away = start({ MASTER_KEY_KMS_ENDPOINT: "http://127.0.0.1:9" });
  assert.match(away.stderr, /KMS does not answer/);
  for (const { status, stdout, stderr } of [secret, ciphertext, away]) {
    assert.notEqual(status, 0);
    assert.doesNotMatch(stdout + stderr, /CANARY|Q0FOQVJZ/);
    assert.ok(!(stdout + stderr).includes(access.secret));
  }
});

/** Runs a command that needs the master key. */
function start(env) {
  const usual = {
    PATH: process.env.PATH,
    MASTER_KEY_KMS_CIPHERTEXT: wrapped.bytes,
    MASTER_KEY_KMS_REGION: REGION,
    MASTER_KEY_KMS_ENDPOINT: endpoint,
    AWS_ACCESS_KEY_ID: access.id,
    AWS_SECRET_ACCESS_KEY: access.secret,
  };
  return spawnSync(salon, ["keys", "list"], { cwd: folder, env: { ...usual, ...env }, encoding: "utf8" });
}

/** An unsigned call; moto reads of the header only which service is meant. */
async function call(service, headers, body) {
  const authorization = `AWS4-HMAC-SHA256 Credential=x/20260101/${REGION}/${service}/aws4_request, SignedHeaders=host, Signature=0`;
  const response = await fetch(endpoint, { method: "POST", headers: { ...headers, authorization }, body });
  const text = await response.text();
  assert.ok(response.ok, text);
  return text;
}

function iam(parameters) {
  return call("iam", { "content-type": "application/x-www-form-urlencoded" }, new URLSearchParams({ Version: "2010-05-08", ...parameters }).toString());
}

async function kms(action, parameters) {
  const headers = { "content-type": "application/x-amz-json-1.1", "x-amz-target": `TrentService.${action}` };
  return JSON.parse(await call("kms", headers, JSON.stringify(parameters)));
}
