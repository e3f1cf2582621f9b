//! The vocabulary of Salon: its nouns, and the rules that need nothing but their arguments.
//!
//! Someone **says** something in a [`Dialog`]. That makes a [`Turn`]. An engine **runs** the turn and
//! writes [`Event`]s. Whoever wants the reply **follows** the events and folds them into a [`Reply`].
//!
//! Everything here is pure: no I/O, no clock, no randomness, no `async`. Functions are total or
//! answer with a [`Refusal`]. Ids and times arrive as arguments, so a test needs no fixture.
//!
//! The nouns, and where each lives:
//!
//! | noun | is | here |
//! |---|---|---|
//! | Dialog | a conversation with its engine, rolling summary and context window | [`dialog`] |
//! | Turn | one numbered exchange: question, answer, times, state | [`turn`] |
//! | Event | one line of a turn's story | [`event`] |
//! | Brief | what an engine is told before it answers | [`brief`] |
//! | Style | how long and how thorough answers should be | [`style`] |
//! | Micros, Tokens, Rates, Tier, Tariff | money to the millionth of a dollar, and what costs it | [`money`] |
//! | Org, User, Owner | who may speak and who pays | [`people`] |
//! | Scopes | what a key may be used for | [`scopes`] |
//! | Limit, Policy, Period, Scope | sentences about the ledger, and windows in a zone | [`limit`] |
//! | Panel | several models that answer together, and the rules of when who is asked | [`panel`] |
//! | Failure | how an agent's run failed, in every language | [`failure`] |
//! | KeptBack | files of a run that nobody gets, told in every language | [`kept_back`] |
//! | Overrun | why a limit has no room for a question | [`overrun`] |
//! | Suggestion | what could be asked next, as a model says it | [`suggest`] |
//! | Refusal | the ways we say no, each with a code and a sentence | [`error`] |
//!
//! Types are not `Serialize`, with one exception: [`Event`], which is our own durable format.

pub mod brief;
pub mod dialog;
pub mod error;
pub mod event;
pub mod failure;
pub mod id;
pub mod kept_back;
pub mod limit;
pub mod locale;
pub mod mask;
pub mod money;
pub mod overrun;
pub mod panel;
pub mod people;
pub mod scopes;
pub mod style;
pub mod suggest;
pub mod summary;
pub mod time;
pub mod turn;

pub use brief::{Brief, Message, Role, Wishes};
pub use dialog::{Channel, Chosen, Dialog, View};
pub use error::Refusal;
pub use event::{
    AskLine, Change, Event, LeftFile, Note, Pending, Reply, ReplyState, Seat, Seating, Stamped, Usage, Voice,
    VoiceState,
};
pub use id::{AskId, BotId, CallId, ChatId, DialogId, FileId, JobId, KeyId, LimitId, OrgId, SecretId, TurnId, UserId};
pub use kept_back::{KeptBack, KeptFile};
pub use limit::{Amounts, Limit, Limits, Measure, Period, Policy, Scope, Window, Zone};
pub use locale::Lang;
pub use money::{LongRates, Micros, Rates, Tariff, Tier, TierRates, Tiers, Tokens};
pub use people::{Org, Owner, User};
pub use scopes::Scopes;
pub use time::Time;
pub use turn::{Turn, TurnState};
