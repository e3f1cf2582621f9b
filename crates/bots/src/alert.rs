//! Alerts: that a limit is nearly used up, or quite, is told to the person concerned and to the admins of their
//! organisation, in the chats that they have linked.
//!
//! The ledger notes a threshold once per window. Its note and the jobs that tell of it end in one transaction, so nobody
//! is told twice, and nobody is left out because a process was killed. Where nobody is linked the note stays as it is: it
//! stands on pages, and in the log.
//!
//! What goes wrong by itself is told by [`trouble`], if a setting says so.

mod trouble;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use salon::Salon;
use salon_core::people::Role;
use salon_core::{BotId, ChatId, JobId, KeyId, Lang, Measure, Micros, Scope, User, UserId};
use salon_store::ledger::Alert;
use salon_store::{NewJob, Result, Tx};
use tokio_util::sync::CancellationToken;

use crate::fleet::Fleet;
use crate::notice::{KIND, Notice};

const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Whoever links a chat later than this after the fact is not told any more.
const NEWS: Duration = Duration::from_secs(60 * 60);
const AT_ONCE: i64 = 100;
/// Notices that wait in a chat.
const ROOM: i64 = 20;

/// Tells what is to be told, until Salon closes.
pub async fn keep(fleet: Arc<Fleet>, salon: Arc<Salon>, closing: CancellationToken) {
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut logged = BTreeSet::new();
    let mut watch = trouble::Watch::default();
    loop {
        tokio::select! {
            () = closing.cancelled() => return,
            _ = every.tick() => {}
        }
        if let Err(error) = look(&fleet, &salon, &mut logged).await {
            tracing::debug!(%error, "alerts could not be told");
        }
        if let Err(error) = watch.look(&fleet, &salon).await {
            tracing::debug!(%error, "errors could not be told");
        }
    }
}

/// An alert by what makes it one of its kind.
type Name = (String, String, i64);

fn name(alert: &Alert) -> Name {
    (alert.limit.id.to_string(), alert.account.clone(), alert.threshold)
}

async fn look(fleet: &Fleet, salon: &Salon, logged: &mut BTreeSet<Name>) -> Result<()> {
    let now = salon.clock.now();
    let alerts = salon.store.read().await?.list_untold_alerts(now - NEWS, AT_ONCE).await?;
    let open: BTreeSet<Name> = alerts.iter().map(name).collect();
    logged.retain(|known| open.contains(known));
    let bots: Vec<BotId> = fleet.all().iter().map(|bot| bot.id().clone()).collect();
    for alert in alerts {
        let name = name(&alert);
        let told = tell(salon, &bots, alert).await?;
        if told == 0 && logged.insert(name.clone()) {
            let (limit, account, percent) = name;
            tracing::info!(limit.id = limit, account.id = account, percent, "a limit's threshold, told to nobody");
        }
    }
    Ok(())
}

struct Telling {
    alert: Alert,
    jobs: Vec<NewJob>,
}

/// Tells one alert; answers how many were told.
async fn tell(salon: &Salon, bots: &[BotId], alert: Alert) -> Result<usize> {
    let mut tx = salon.store.read().await?;
    let mut heard = BTreeSet::new();
    let mut jobs = Vec::new();
    for listener in listeners(&mut tx, &alert).await? {
        for place in places_of(&mut tx, bots, &listener.user).await? {
            if heard.insert(place.telegram) {
                let (limit, account, threshold) = name(&alert);
                let key = format!("alert:{limit}:{account}:{threshold}:{}", place.telegram);
                let text = text(&alert, listener.about.as_deref(), place.lang);
                jobs.push(notice(salon, key, place, text)?);
            }
        }
    }
    drop(tx);
    let count = jobs.len();
    if count == 0 {
        return Ok(0);
    }
    let args = (Telling { alert, jobs }, salon.clock.now());
    let told = salon.store.write(args, |tx, (telling, now)| {
        Box::pin(async move {
            // Another process may be at the same.
            if tx.tell_crossing(&telling.alert.crossing(), *now).await? {
                for job in &telling.jobs {
                    tx.enqueue(job).await?;
                }
            }
            Ok(())
        })
    });
    told.await?;
    Ok(count)
}

/// Somebody who is told, and about whom if not about themselves.
struct Listener {
    user: User,
    about: Option<String>,
}

async fn listeners(tx: &mut Tx, alert: &Alert) -> Result<Vec<Listener>> {
    let holder = alert.holder.as_str();
    let (person, about) = match alert.limit.scope {
        Scope::User => {
            let user = tx.find_user(&UserId::new(holder)).await?;
            let name = user.as_ref().map_or_else(|| holder.to_owned(), |user| user.name.clone());
            (user, name)
        }
        Scope::Key => match tx.find_api_key(&KeyId::new(holder)).await? {
            Some(key) => (tx.find_user(&key.user).await?, key.name),
            None => (None, holder.to_owned()),
        },
        // A run is over before anybody has read of it; its person sees what it took below the answer.
        Scope::Run => return Ok(Vec::new()),
        Scope::Chat => (None, holder.to_owned()),
        Scope::Org => {
            let org = tx.find_org(&alert.limit.org).await?;
            (None, org.map_or_else(|| holder.to_owned(), |org| org.name))
        }
    };
    let mut listeners = Vec::new();
    if let Some(user) = person.filter(|user| user.active) {
        // Of their keys people have several.
        let about = (alert.limit.scope == Scope::Key).then(|| about.clone());
        listeners.push(Listener { user, about });
    }
    let admins = tx.list_users(Some(&alert.limit.org)).await?.into_iter();
    let admins = admins.filter(|user| user.active && user.role == Role::Admin);
    listeners.extend(admins.map(|user| Listener { user, about: Some(about.clone()) }));
    Ok(listeners)
}

/// Where somebody reads what nobody asked for.
struct Spot {
    telegram: i64,
    bot: BotId,
    lang: Lang,
}

/// The private chats of somebody in Telegram, which are called as they are: in each the first bot that they have written
/// to and that still reaches them, in the language that they chose, or else speak there.
async fn places_of(tx: &mut Tx, bots: &[BotId], user: &User) -> Result<Vec<Spot>> {
    let linked = tx.list_links(&user.id).await?.into_iter().map(|link| link.telegram);
    let chats: BTreeSet<i64> = linked.chain(user.telegram).collect();
    let chosen = tx.find_account(&user.id).await?.and_then(|account| account.taste.lang);
    let mut places = Vec::new();
    for telegram in chats {
        for bot in bots {
            let chat = tx.find_chat(bot, ChatId(telegram)).await?;
            if let (Some(spoken), None) = (chat.lang, chat.parked_at) {
                let lang = chosen.as_deref().map_or(spoken, |tag| Lang::from_tag(Some(tag)));
                places.push(Spot { telegram, bot: bot.clone(), lang });
                break;
            }
        }
    }
    Ok(places)
}

fn text(alert: &Alert, about: Option<&str>, lang: Lang) -> String {
    let limit = &alert.limit;
    let shown = |amount: i64| {
        let amount = match limit.measure {
            Measure::Micros => Micros(amount).to_string(),
            Measure::Tokens | Measure::Requests => amount.to_string(),
        };
        lang.say(&format!("alert.{}", limit.measure.as_str()), &[("amount", &amount)])
    };
    let when = lang.say(&format!("alert.{}", limit.period.as_str()), &[]);
    let (percent, used, amount) = (alert.threshold.to_string(), shown(alert.taken), shown(limit.amount));
    let holes = [("percent", percent.as_str()), ("when", &when), ("used", &used), ("amount", &amount)];
    match about {
        None => lang.say("alert.yours", &holes),
        Some(who) => lang.say("alert.theirs", &[&holes[..], &[("who", who)]].concat()),
    }
}

fn notice(salon: &Salon, key: String, place: Spot, text: String) -> Result<NewJob> {
    let Spot { telegram, bot, .. } = place;
    let notice = Notice {
        chat: telegram,
        topic: None,
        user: telegram,
        text,
        buttons: None,
        queue: None,
        after: None,
        edits: None,
        rows: Default::default(),
        markdown: false,
        chart: None,
    };
    Ok(NewJob {
        id: JobId::new(salon.clock.id()),
        key: Some(key),
        queue: salon::QUEUE_OUT,
        kind: KIND,
        lane: format!("out-beside:{bot}:{telegram}"),
        bot: Some(bot),
        payload: serde_json::to_string(&notice).map_err(anyhow::Error::new)?,
        now: salon.clock.now(),
        room: Some(ROOM),
    })
}
