//! Who pays for a turn, and what an engine of its own takes of the ledger: the same functions that charge a stateless
//! call.

use std::sync::Arc;
use std::time::Duration;

use salon_core::limit::Zone;
use salon_core::overrun::Overrun;
use salon_core::people::Role;
use salon_core::{
    Amounts, Brief, CallId, Channel, Dialog, KeyId, OrgId, Scopes, Tariff, Time, Tokens, Turn, Usage, UserId,
};
use salon_engine::{EngineError, estimate};
use salon_store::Result;

use crate::access::Caller;
use crate::audit::Actor;
use crate::engines::Configured;
use crate::ledger::{Attempt, Book, NotReserved, Quote, Reserved, Spent, Standing, Tab};
use crate::logins::reach;
use crate::people::{DEFAULT_ORG, person_of_telegram};
use crate::relay::{Asking, DOOR_OF_TURNS, Refused, payer};
use crate::say::RunPayload;
use crate::{Salon, Work};

/// What is set aside for an answer: nobody says beforehand how long it will be.
const USUAL_OUTPUT: i64 = 4_096;
/// A turn that nobody has ended so long after its deadline is nobody's any more.
pub(super) const REAP_AFTER: Duration = Duration::from_secs(60);

/// Who asked, and what the ledger calls this attempt to answer.
pub(super) struct Asker {
    pub caller: Arc<Caller>,
    pub asking: Asking,
    pub call: CallId,
    /// Whether an admin was asked about this call.
    pub asked: bool,
}

impl Asker {
    pub async fn of(salon: &Salon, work: &Work, payload: &RunPayload, turn: &Turn, dialog: &Dialog) -> Result<Asker> {
        let epoch = work.lease.ticket.epoch;
        // An attempt that was cut off may have cost something, and nobody knows what. The next one is another call.
        let (call, asked) = match epoch {
            1 => (CallId::new(turn.id.as_str()), false),
            later => {
                // Unless it only waited for an admin: then it is the call that was decided about.
                let decided = salon.store.read().await?.list_decided(&turn.id).await?;
                let own = decided.into_iter().find(|call| is_attempt(turn, call));
                let asked = own.is_some();
                (own.unwrap_or_else(|| CallId::new(format!("{}.{later}", turn.id))), asked)
            }
        };
        let asking = Asking { turn: turn.id.clone(), chat: chat_of(dialog), run: false };
        Ok(Asker { caller: Arc::new(caller(salon, payload, turn).await?), asking, call, asked })
    }

    /// The same, for what they may be answered by under this engine's name: the model behind it is not asked about again.
    pub fn for_engine(mut self, salon: &Salon, engine: &str) -> Asker {
        if salon.may_ask(&self.caller, engine).is_ok() {
            self.caller = Arc::new(Caller { scopes: Scopes::default(), ..(*self.caller).clone() });
        }
        self
    }
}

/// The chat that a dialog is held in, as limits know it.
pub(super) fn chat_of(dialog: &Dialog) -> Option<String> {
    match &dialog.channel {
        Channel::Telegram { bot, chat } => Some(format!("{bot}:{chat}")),
        Channel::Api => None,
    }
}

/// Whether a call is an attempt at the whole turn, and not at a voice of its panel.
fn is_attempt(turn: &Turn, call: &CallId) -> bool {
    let rest = call.as_str().strip_prefix(turn.id.as_str());
    rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('.').is_some_and(|n| n.parse::<u64>().is_ok()))
}

/// A turn that may be run, because what it may take was set aside.
pub(super) struct Fare {
    reserved: Reserved,
    rates: Tariff,
    engine: String,
}

/// Whether a turn may be run.
pub(super) enum Boarding<T> {
    Granted(T),
    /// An admin has to agree first.
    Held,
    Refused(EngineError),
}

impl<T> Boarding<T> {
    pub fn map<U>(self, granted: impl FnOnce(T) -> U) -> Boarding<U> {
        match self {
            Boarding::Granted(what) => Boarding::Granted(granted(what)),
            Boarding::Held => Boarding::Held,
            Boarding::Refused(error) => Boarding::Refused(error),
        }
    }

    /// What becomes of a turn for which nothing could be set aside. Days begin by the zone.
    pub fn not(not: NotReserved, zone: &Zone, now: Time) -> Result<Boarding<T>> {
        let (code, words) = match not {
            NotReserved::Held { .. } => return Ok(Boarding::Held),
            NotReserved::Unavailable(why) => return Err(salon_store::Error::Unavailable(why)),
            NotReserved::Over(standing) => ("over_limit", overrun(&standing, zone, now).to_string()),
            NotReserved::Denied => ("approval_denied", Refused::from(NotReserved::Denied).message),
            stopped @ NotReserved::Stopped { .. } => ("account_stopped", Refused::from(stopped).message),
            refused @ NotReserved::Duplicate => ("over_limit", Refused::from(refused).message),
        };
        Ok(Boarding::Refused(EngineError::failed(code, words)))
    }
}

/// The limit that has no room, with the day on which it begins anew.
fn overrun(standing: &Standing, zone: &Zone, now: Time) -> Overrun {
    let secs = standing.headroom.reset_secs.and_then(|secs| u64::try_from(secs).ok());
    standing.overrun(secs.map(|secs| (zone.day(now + Duration::from_secs(secs)), zone.name().to_owned())))
}

impl Fare {
    pub async fn reserve(
        book: &Book,
        salon: &Salon,
        asker: &Asker,
        configured: &Configured,
        brief: &Brief,
        tab: &Tab,
    ) -> Result<Boarding<Fare>> {
        let tokens = Tokens::new(estimate::brief_tokens(brief), brief.wishes.max_output.unwrap_or(USUAL_OUTPUT));
        let quote = Quote {
            call: asker.call.clone(),
            fresh: false,
            payer: payer(&asker.caller, Some(&asker.asking)),
            door: DOOR_OF_TURNS.to_owned(),
            model: configured.name.clone(),
            most: Amounts {
                micros: configured.rates.most(tokens.input, tokens.output).0,
                tokens: tokens.total(),
                requests: 1,
            },
            deadline: salon.clock.now() + salon.settings.run_deadline + REAP_AFTER,
            first: Some(Attempt {
                n: 1,
                upstream: configured.name.clone(),
                model: configured.model.clone().unwrap_or_else(|| configured.name.clone()),
                whose: "house".to_owned(),
                secret: None,
            }),
            share: None,
        };
        match book.reserve(quote).await {
            Ok(reserved) => {
                let (rates, engine) = (configured.rates, configured.name.clone());
                Ok(Boarding::Granted(Fare { reserved: reserved.charged_to(tab), rates, engine }))
            }
            Err(not) => Boarding::not(not, &asker.caller.zone, salon.clock.now()),
        }
    }

    /// Puts what the answer used on the turn's tab. What used nothing costs nothing.
    pub async fn settle(self, usage: &Usage) {
        let tokens = Tokens::new(usage.tokens_in.max(0), usage.tokens_out.max(0));
        if tokens.total() == 0 {
            return self.reserved.release("nothing was used").await;
        }
        let spent = Spent {
            attempt: Some(1),
            upstream_model: usage.model.clone().unwrap_or_else(|| self.engine.clone()),
            upstream: self.engine,
            whose: "house".to_owned(),
            tokens,
            micros: self.rates.cost(&tokens),
            estimated: usage.estimated,
            suspect: usage.suspect,
            cache_hit: false,
        };
        self.reserved.settle(spent).await;
    }
}

/// Whoever asked, with the rights of a caller of the relay: the models that they may be answered by. Whether they may ask
/// at all was settled when they did.
async fn caller(salon: &Salon, payload: &RunPayload, turn: &Turn) -> Result<Caller> {
    let mut tx = salon.store.read().await?;
    let known = match (&payload.user, turn.user) {
        (Some(user), _) => tx.find_user(&UserId::new(user.as_str())).await?,
        (None, Some(telegram)) => tx.find_user_of_telegram(telegram).await?,
        (None, None) => None,
    };
    let person = match (known, turn.user) {
        (Some(user), _) => Some(user),
        (None, Some(telegram)) => {
            let args = (telegram, UserId::new(salon.clock.id()), salon.pen(Actor::Salon));
            let made = salon.store.write(args, |tx, (telegram, id, pen)| {
                Box::pin(async move { person_of_telegram(tx, pen, *telegram, "", id, pen.at()).await })
            });
            Some(made.await?)
        }
        (None, None) => None,
    };
    let scopes = match &person {
        Some(person) => tx.find_account(&person.id).await?.map(|account| reach(&account)).unwrap_or_default(),
        None => Scopes::default(),
    };
    let (org, user, role) = match person {
        Some(person) => (person.org, person.id, person.role),
        None => (OrgId::new(DEFAULT_ORG), UserId::new("nobody"), Role::User),
    };
    let zone = tx.find_org(&org).await?.and_then(|org| Zone::find(&org.zone)).unwrap_or_else(Zone::utc);
    let key = payload.key.as_deref().map(KeyId::new);
    Ok(Caller { org, zone, user, role, key, scopes })
}
