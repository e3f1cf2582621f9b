//! The audit: who did what, written in the transaction that does it, so that there is no change without its line and no
//! line without its change.
//!
//! Each line is bound to the one before by an HMAC whose key is not in the database: whoever can only write there cannot
//! change, remove or swap a line unnoticed. Cutting lines off at the end is noticed by [`anchors`], which stand elsewhere.
//!
//! [`note`] holds the end of the audit until its transaction commits. So it is the last thing that a transaction does:
//! whatever comes after it keeps everybody else waiting.

pub mod anchors;

use std::fmt;

use hmac::{Hmac, Mac};
use salon_core::{OrgId, Time, UserId};
use salon_store::{AuditHead, AuditLine, Result, Store, Tx};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::access::Caller;
use crate::clock::Clock;
use crate::keys::{Keys, hex};
use crate::{Salon, logins};
use anchors::Anchor;

const LABEL: &[u8] = b"salon.audit.v1";
/// Lines that are looked at in one go.
const AT_ONCE: i64 = 1_000;

/// Who does something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Whoever has the machine, and uses the command line.
    Operator,
    User(UserId),
    /// Somebody of Telegram who is known by nothing else.
    Telegram(i64),
    /// Somebody who is nobody here, such as who types a wrong password.
    Guest,
    /// Salon itself.
    Salon,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Operator => f.write_str("operator"),
            Actor::User(user) => f.write_str(user.as_str()),
            Actor::Telegram(id) => write!(f, "telegram:{id}"),
            Actor::Guest => f.write_str("guest"),
            Actor::Salon => f.write_str("salon"),
        }
    }
}

impl From<&UserId> for Actor {
    fn from(user: &UserId) -> Actor {
        Actor::User(user.clone())
    }
}

impl From<&Caller> for Actor {
    fn from(caller: &Caller) -> Actor {
        Actor::User(caller.user.clone())
    }
}

impl From<&logins::Visit> for Actor {
    fn from(visit: &logins::Visit) -> Actor {
        Actor::User(visit.account.user.id.clone())
    }
}

/// What lines are written with: who does it, when, and the key. One for each deed; functions that change something want
/// it, so that nobody forgets.
#[derive(Clone)]
pub struct Pen {
    actor: Actor,
    at: Time,
    key: Hmac<Sha256>,
}

impl fmt::Debug for Pen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pen({} at {})", self.actor, self.at)
    }
}

impl Pen {
    pub fn new(keys: &Keys, clock: &Clock, actor: impl Into<Actor>) -> Pen {
        Pen { actor: actor.into(), at: clock.now(), key: keys.audit() }
    }

    /// The same in somebody else's hand, who is known only now.
    pub fn held_by(&self, actor: impl Into<Actor>) -> Pen {
        Pen { actor: actor.into(), ..self.clone() }
    }

    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    pub fn at(&self) -> Time {
        self.at
    }
}

impl Salon {
    /// A pen for what somebody does now.
    pub fn pen(&self, actor: impl Into<Actor>) -> Pen {
        Pen::new(&self.keys, &self.clock, actor)
    }
}

macro_rules! actions {
    ($($name:ident $text:literal,)*) => {
        /// What can be done. The words are what stands in the database; they do not change.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Action { $($name,)* }

        impl Action {
            pub const ALL: &[Action] = &[$(Action::$name,)*];

            pub fn as_str(self) -> &'static str {
                match self { $(Action::$name => $text,)* }
            }
        }
    };
}

actions! {
    LogIn "login.begin",
    LogOut "login.end",
    PasswordSet "password.set",
    FactorOn "factor.on",
    FactorOff "factor.off",
    RecoveryUsed "factor.recovery",
    Invited "invitation.made",
    UserAdded "user.added",
    UserChanged "user.changed",
    UserRemoved "user.removed",
    OrgAdded "org.added",
    OrgChanged "org.changed",
    ApiKeyMade "api_key.made",
    ApiKeyRevoked "api_key.revoked",
    ProviderKeyPut "provider_key.put",
    ProviderKeyRemoved "provider_key.removed",
    MasterKeyMoved "master_key.moved",
    MasterKeyForgotten "master_key.forgotten",
    DataKeysRenewed "data_keys.renewed",
    LimitAdded "limit.added",
    LimitChanged "limit.changed",
    LimitRemoved "limit.removed",
    CallApproved "call.approved",
    CallDenied "call.denied",
    PlanAdded "plan.added",
    PlanChanged "plan.changed",
    PlanRemoved "plan.removed",
    PlanGiven "plan.given",
    UpstreamSet "upstream.set",
    UpstreamRemoved "upstream.removed",
    ModelSet "model.set",
    ModelRemoved "model.removed",
    PriceSet "price.set",
    PriceRemoved "price.removed",
    BotAdded "bot.added",
    BotChanged "bot.changed",
    BotRemoved "bot.removed",
    SettingChanged "setting.changed",
    Exported "data.exported",
    AgentTrusted "agent.unsafe",
    FilesRefused "agent.files_refused",
    ChatLinked "link.added",
    ChatUnlinked "link.removed",
    IdentityLinked "identity.added",
    IdentityUnlinked "identity.removed",
}

/// What was done, to what.
#[derive(Clone, Debug)]
pub struct Deed {
    action: Action,
    org: OrgId,
    object: String,
    result: &'static str,
    detail: Value,
}

impl Deed {
    /// The object is an id, never what people wrote.
    pub fn new(action: Action, org: &OrgId, object: impl fmt::Display) -> Deed {
        Deed { action, org: org.clone(), object: object.to_string(), result: "ok", detail: Value::Null }
    }

    /// What else is to be known of it. Never a secret, nor words of a conversation.
    pub fn with(mut self, detail: Value) -> Deed {
        self.detail = detail;
        self
    }

    /// How it ended, if not well.
    pub fn ended(mut self, result: &'static str) -> Deed {
        self.result = result;
        self
    }
}

/// Writes a line in the caller's transaction, as its last act.
pub async fn note(tx: &mut Tx, pen: &Pen, deed: Deed) -> Result<()> {
    let head = tx.hold_audit().await?;
    let mut line = AuditLine {
        seq: head.seq + 1,
        at: pen.at,
        actor: pen.actor.to_string(),
        org: deed.org,
        action: deed.action.as_str().to_owned(),
        // PostgreSQL refuses U+0000, and the line is bound as it is stored.
        object: deed.object.replace('\0', "\u{fffd}"),
        result: deed.result.to_owned(),
        detail: match deed.detail {
            Value::Null => "{}".to_owned(),
            detail => detail.to_string(),
        },
        prev: head.mac,
        mac: String::new(),
    };
    line.mac = mac(&pen.key, &line);
    tx.add_audit_line(&line).await
}

/// Writes a line about something that changes nothing in the database.
pub async fn note_alone(store: &Store, pen: Pen, deed: Deed) -> Result<()> {
    store.write((pen, deed), |tx, (pen, deed)| Box::pin(note(tx, pen, deed.clone()))).await
}

/// What binds a line. Each part has its length before it, so that no two lines look the same when put together.
fn mac(key: &Hmac<Sha256>, line: &AuditLine) -> String {
    let mut mac = key.clone();
    let (seq, at, detail) = (line.seq.to_be_bytes(), line.at.0.to_be_bytes(), Sha256::digest(&line.detail));
    let parts: [&[u8]; 10] = [
        LABEL,
        &seq,
        &at,
        line.actor.as_bytes(),
        line.org.as_str().as_bytes(),
        line.action.as_bytes(),
        line.object.as_bytes(),
        line.result.as_bytes(),
        &detail,
        line.prev.as_bytes(),
    ];
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    hex(&mac.finalize().into_bytes())
}

/// What is wrong with the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// There is no line of this number, though there are later ones.
    Missing(i64),
    /// This line, or the one before, is not what was written.
    Changed(i64),
    /// The lines after this one were cut off; so many there were at least.
    CutOff { last: i64, known: i64 },
    /// The lines hang together, but not as they did when the anchor was made.
    Anchor(i64),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::Missing(seq) => write!(f, "line {seq} is missing"),
            Flaw::Changed(seq) => write!(f, "line {seq} is not as it was written, or does not follow the one before"),
            Flaw::CutOff { last, known } => {
                write!(f, "the end was cut off: line {last} is the last one, and there were {known} at least")
            }
            Flaw::Anchor(seq) => write!(f, "line {seq} is not the one that the anchor was made of"),
        }
    }
}

/// What a look at the whole audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Lines that hang together, from the first one.
    pub lines: i64,
    /// Anchors that agree.
    pub anchors: usize,
    pub flaw: Option<Flaw>,
}

/// Looks through the whole audit, and compares it with anchors. Others may go on writing meanwhile.
pub async fn verify(store: &Store, keys: &Keys, anchors: &[Anchor]) -> Result<Verdict> {
    let key = keys.audit();
    // Read first: what is written meanwhile only comes after it.
    let head = store.read().await?.audit_head().await?;
    let mut verdict = Verdict::default();
    let mut last = AuditHead::default();
    loop {
        let lines = store.read().await?.walk_audit(last.seq, AT_ONCE).await?;
        let found = lines.len();
        for line in lines {
            verdict.flaw = flaw(&key, &last, &line);
            let anchored = anchors.iter().filter(|anchor| anchor.seq == line.seq);
            for anchor in anchored {
                match anchor.mac == line.mac {
                    true => verdict.anchors += 1,
                    false => verdict.flaw = verdict.flaw.or(Some(Flaw::Anchor(line.seq))),
                }
            }
            if head.seq == line.seq && head.mac != line.mac {
                verdict.flaw = verdict.flaw.or(Some(Flaw::Changed(line.seq)));
            }
            if verdict.flaw.is_some() {
                return Ok(verdict);
            }
            verdict.lines += 1;
            last = AuditHead { seq: line.seq, mac: line.mac };
        }
        if found < AT_ONCE as usize {
            break;
        }
    }
    let known = anchors.iter().map(|anchor| anchor.seq).max().unwrap_or(0).max(head.seq);
    if known > last.seq {
        verdict.flaw = Some(Flaw::CutOff { last: last.seq, known });
    }
    Ok(verdict)
}

fn flaw(key: &Hmac<Sha256>, last: &AuditHead, line: &AuditLine) -> Option<Flaw> {
    if line.seq != last.seq + 1 {
        return Some(Flaw::Missing(last.seq + 1));
    }
    (line.prev != last.mac || line.mac != mac(key, line)).then_some(Flaw::Changed(line.seq))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_actions_have_one_word() {
        let mut words: Vec<_> = Action::ALL.iter().map(|action| action.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Action::ALL.len());
    }
}
