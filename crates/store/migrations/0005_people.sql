-- Who may speak, by which keys, and the secrets that we keep for them.

CREATE TABLE orgs (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    -- IANA; days and months of the ledger begin by it.
    zone TEXT NOT NULL,
    -- What a sister backend calls it in its tokens.
    subject TEXT UNIQUE,
    created_at BIGINT NOT NULL
);

-- Everybody who is not said to belong elsewhere belongs here.
INSERT INTO orgs (id, name, zone, subject, created_at) VALUES ('default', 'Default', 'UTC', NULL, 0);

CREATE TABLE users (
    id TEXT PRIMARY KEY,
    org_id TEXT NOT NULL REFERENCES orgs (id),
    name TEXT NOT NULL,
    email TEXT,
    role TEXT NOT NULL CHECK (role IN ('admin', 'manager', 'user')),
    active BIGINT NOT NULL CHECK (active IN (0, 1)),
    telegram_id BIGINT UNIQUE,
    subject TEXT UNIQUE,
    created_at BIGINT NOT NULL,
    -- Whoever was removed keeps a row without a name, for the ledger's sums.
    removed_at BIGINT
);

CREATE INDEX users_org ON users (org_id, created_at, id);

CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    -- HMAC of what was shown once.
    hash TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    -- The last letters, so that people recognise theirs.
    hint TEXT NOT NULL,
    -- For whom it speaks, and who made it: it never may do more than either.
    user_id TEXT NOT NULL REFERENCES users (id),
    maker_id TEXT NOT NULL REFERENCES users (id),
    -- The key it was made with; it goes when that one does.
    parent_id TEXT REFERENCES api_keys (id),
    role TEXT NOT NULL CHECK (role IN ('admin', 'manager', 'user')),
    -- Lists between commas. NULL is everything, '' nothing.
    routes TEXT,
    models TEXT,
    networks TEXT,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    last_used_at BIGINT,
    revoked_at BIGINT
);

CREATE INDEX api_keys_user ON api_keys (user_id, created_at, id);
CREATE INDEX api_keys_maker ON api_keys (maker_id);
CREATE INDEX api_keys_parent ON api_keys (parent_id) WHERE parent_id IS NOT NULL;

CREATE TABLE deks (
    -- A ULID; its 16 bytes stand in every blob that this key sealed.
    id TEXT PRIMARY KEY,
    -- org:<id>, user:<id>, or salon for the key that tokens are hashed by.
    owner TEXT NOT NULL,
    -- The master key that wrapped it.
    kid TEXT NOT NULL,
    wrapped BYTEA NOT NULL,
    -- New secrets are sealed by it; the owner's others only wait until nothing is sealed by them.
    active BIGINT NOT NULL CHECK (active IN (0, 1)),
    created_at BIGINT NOT NULL
);

CREATE UNIQUE INDEX deks_active ON deks (owner) WHERE active = 1;
CREATE INDEX deks_kid ON deks (kid, id);

CREATE TABLE secrets (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    provider TEXT NOT NULL,
    -- Scheme, host and port: the only place where the secret may be shown.
    origin TEXT NOT NULL,
    dek_id TEXT NOT NULL REFERENCES deks (id),
    sealed BYTEA NOT NULL,
    hint TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (owner, provider, origin)
);

CREATE INDEX secrets_dek ON secrets (dek_id, id);

-- Which master keys each process has at hand, so that none is used before all have it.
CREATE TABLE keyrings (
    instance TEXT PRIMARY KEY,
    -- Between commas; the first one encrypts.
    kids TEXT NOT NULL,
    seen_at BIGINT NOT NULL
);
