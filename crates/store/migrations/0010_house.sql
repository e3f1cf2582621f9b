-- The house: people in a browser, what links them to Telegram, and the desk of those who run it.

-- What somebody types to come in, in lower case; without one they only come by other doors.
ALTER TABLE users ADD COLUMN login TEXT;
CREATE UNIQUE INDEX users_login ON users (login) WHERE login IS NOT NULL;
-- Argon2id, as a PHC string. NULL: not by a password.
ALTER TABLE users ADD COLUMN password TEXT;
-- The second factor: its secret, sealed in the vault's way, and the last step that was used.
ALTER TABLE users ADD COLUMN factor_id TEXT;
ALTER TABLE users ADD COLUMN factor_step BIGINT NOT NULL DEFAULT 0;
-- Raised by whatever must end what they have open: another password, another role, a block.
ALTER TABLE users ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN lang TEXT;
-- Who answers them where nobody says, in which style.
ALTER TABLE users ADD COLUMN engine TEXT;
ALTER TABLE users ADD COLUMN style TEXT;
-- Names of models between commas that they may use; NULL is everything.
ALTER TABLE users ADD COLUMN models TEXT;
ALTER TABLE users ADD COLUMN plan_id TEXT;
-- After this they may do nothing, as if they were blocked.
ALTER TABLE users ADD COLUMN until_at BIGINT;
ALTER TABLE users ADD COLUMN seen_at BIGINT;

-- Browsers that came in.
CREATE TABLE logins (
    id TEXT PRIMARY KEY,
    -- HMAC of the cookie.
    hash TEXT NOT NULL UNIQUE,
    user_id TEXT NOT NULL REFERENCES users (id),
    -- The pages of everybody, or the administrators' desk: each has its own cookie.
    realm TEXT NOT NULL CHECK (realm IN ('house', 'desk')),
    -- The user's when they came in; another one since ends it.
    epoch BIGINT NOT NULL,
    -- Which browser it says it is, in a few words.
    browser TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    -- When they proved last who they are.
    proved_at BIGINT NOT NULL
);

CREATE INDEX logins_user ON logins (user_id, created_at);
CREATE INDEX logins_expiry ON logins (expires_at);

-- Tokens that prove something outside of a chat: an invitation, the first administrator's link, a code that links a chat.
ALTER TABLE tokens ADD COLUMN account_id TEXT;

-- People of Telegram who are somebody here.
CREATE TABLE links (
    telegram_id BIGINT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id),
    -- What they are called there.
    name TEXT NOT NULL,
    linked_at BIGINT NOT NULL
);

CREATE INDEX links_user ON links (user_id, linked_at);

-- Who somebody is at an identity provider.
CREATE TABLE identities (
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    user_id TEXT NOT NULL REFERENCES users (id),
    created_at BIGINT NOT NULL,
    PRIMARY KEY (issuer, subject)
);

CREATE INDEX identities_user ON identities (user_id);

-- What was done here, each line bound to the one before. Append only: triggers refuse anything else, see dialect.rs.
CREATE TABLE audit (
    seq BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    -- A user's id, or 'telegram:' and one of Telegram's; 'operator' is whoever has the machine, 'guest' somebody who is nobody here, 'salon' is Salon itself.
    actor TEXT NOT NULL,
    org_id TEXT NOT NULL,
    action TEXT NOT NULL,
    object TEXT NOT NULL,
    result TEXT NOT NULL,
    -- JSON.
    detail TEXT NOT NULL,
    prev TEXT NOT NULL,
    mac TEXT NOT NULL
);

CREATE INDEX audit_org ON audit (org_id, seq);

-- The last line. Whoever writes the next one holds this row until the commit.
CREATE TABLE audit_head (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    seq BIGINT NOT NULL,
    mac TEXT NOT NULL
);

INSERT INTO audit_head (id, seq, mac) VALUES (1, 0, '');

-- Sets of limits that can be given to people, such as free and paid.
CREATE TABLE plans (
    id TEXT PRIMARY KEY,
    org_id TEXT NOT NULL REFERENCES orgs (id),
    name TEXT NOT NULL,
    -- JSON: the limits.
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    UNIQUE (org_id, name)
);

-- Limits that a plan gave.
ALTER TABLE limits ADD COLUMN plan_id TEXT;

-- Commands of a team's own: a bot answers them with a text.
CREATE TABLE replies (
    -- '' is every bot.
    bot_id TEXT NOT NULL,
    name TEXT NOT NULL,
    text TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (bot_id, name)
);

-- Dialogs: what people call one, and the turn of another one from which it went its own way.
ALTER TABLE dialogs ADD COLUMN title TEXT;
ALTER TABLE dialogs ADD COLUMN branch_of TEXT;
ALTER TABLE dialogs ADD COLUMN style TEXT;
-- A person keeps it: it does not expire.
ALTER TABLE dialogs ADD COLUMN kept BIGINT NOT NULL DEFAULT 0 CHECK (kept IN (0, 1));

-- Files that people bring with a question, beside those that an engine leaves.
ALTER TABLE files ADD COLUMN brought BIGINT NOT NULL DEFAULT 0 CHECK (brought IN (0, 1));

CREATE INDEX entries_turn ON entries (turn_id) WHERE turn_id IS NOT NULL;
