//! What a turn may take of the ledger, and what it took: the same functions that charge a stateless call.

use std::time::Duration;

use salon_core::limit::{Amounts, Zone};
use salon_core::{Brief, CallId, Channel, Dialog, Rates, Tokens, Turn, Usage, UserId};
use salon_engine::estimate;
use salon_store::Result;

use crate::engines::Configured;
use crate::ledger::{Attempt, Book, NotReserved, Payer, Quote, Reserved, Spent};
use crate::people::{DEFAULT_ORG, person_of_telegram};
use crate::{Salon, Work};

/// What is set aside for an answer: nobody says beforehand how long it will be.
const USUAL_OUTPUT: i64 = 4_096;
/// A turn that nobody has ended so long after its deadline is nobody's any more.
const REAP_AFTER: Duration = Duration::from_secs(60);

/// A turn that may be run, because what it may take was set aside.
pub(super) struct Fare {
    reserved: Reserved,
    rates: Rates,
    engine: String,
}

/// Whether a turn may be run.
pub(super) enum Boarding {
    Granted(Fare),
    /// An admin has to agree first.
    Held,
    Refused(NotReserved),
}

impl Fare {
    pub async fn reserve(
        book: &Book,
        salon: &Salon,
        work: &Work,
        (turn, dialog): (&Turn, &Dialog),
        configured: &Configured,
        brief: &Brief,
    ) -> Result<Boarding> {
        let tokens = Tokens::new(estimate::brief_tokens(brief), USUAL_OUTPUT);
        let epoch = work.lease.ticket.epoch;
        // An attempt that was cut off may have cost something, and nobody knows what. The next one is another call.
        let call = match epoch {
            1 => CallId::new(turn.id.as_str()),
            later => CallId::new(format!("{}.{later}", turn.id)),
        };
        let quote = Quote {
            call,
            payer: payer(salon, turn, dialog).await?,
            door: "turn".to_owned(),
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
        };
        match book.reserve(quote).await {
            Ok(reserved) => {
                let (rates, engine) = (configured.rates, configured.name.clone());
                Ok(Boarding::Granted(Fare { reserved, rates, engine }))
            }
            Err(NotReserved::Held { .. }) => Ok(Boarding::Held),
            Err(NotReserved::Unavailable(why)) => Err(salon_store::Error::Unavailable(why)),
            Err(refused) => Ok(Boarding::Refused(refused)),
        }
    }

    /// Charges what the answer used. What used nothing costs nothing.
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

async fn payer(salon: &Salon, turn: &Turn, dialog: &Dialog) -> Result<Payer> {
    let mut tx = salon.store.read().await?;
    let known = match turn.user {
        Some(telegram) => tx.find_user_of_telegram(telegram).await?,
        None => None,
    };
    let person = match (known, turn.user) {
        (Some(user), _) => Some(user),
        (None, Some(telegram)) => {
            let args = (telegram, UserId::new(salon.clock.id()), salon.clock.now());
            let made = salon.store.write(args, |tx, (telegram, id, now)| {
                Box::pin(async move { person_of_telegram(tx, *telegram, "", id, *now).await })
            });
            Some(made.await?)
        }
        (None, None) => None,
    };
    let (org, user) = match person {
        Some(person) => (person.org, person.id),
        None => (salon_core::OrgId::new(DEFAULT_ORG), UserId::new("nobody")),
    };
    let zone = tx.find_org(&org).await?.map_or_else(|| Zone::utc().name().to_owned(), |org| org.zone);
    let Channel::Telegram { bot, chat } = &dialog.channel;
    Ok(Payer {
        org,
        zone,
        user,
        key: None,
        chat: Some(format!("{bot}:{chat}")),
        turn: Some(turn.id.clone()),
        run: None,
    })
}
