//! What could be asked next: a dialog's own model is asked for it once, when a person wants it, as a call of that person's
//! like any other. What it said is remembered by the turn that it was shown, so that nobody pays twice for the same.

use std::sync::Arc;
use std::time::Duration;

use salon_core::suggest::{shown, suggestions};
use salon_core::{Brief, CallId, Dialog, Event, Turn, Wishes};
use salon_engine::{Emitter, Engine, EngineError};
use salon_store::Result;
use tokio_util::sync::CancellationToken;

use super::fare::{Asker, Boarding, chat_of};
use super::model::Model;
use super::panel;
use crate::access::Caller;
use crate::engines::{Answers, Choice};
use crate::idempotency::{Begun, Key, Replay, Route, Work};
use crate::people::mask_of;
use crate::relay::{Asking, Relay};

/// Tokens for a few lines.
const CAP: i64 = 150;
/// For models that think within what they may say.
const CAP_OF_THINKERS: i64 = 1_000;
/// How long they are waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often somebody who came while they were made looks whether they are there.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const ROUTE: &str = "/dialogs/{dialog}/suggestions";
/// Events that may wait to be heard.
const WAITING: usize = 64;

/// What became of the wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Suggested {
    /// Up to three, never none.
    Lines(Vec<String>),
    /// Whoever answers the dialog is no model, or a model that this person may not ask.
    NoModel,
    /// Nothing was answered yet.
    NoAnswer,
    /// An administrator has to agree first.
    Held,
    /// The model said nothing that could be asked.
    Nothing,
    Failed {
        code: &'static str,
        message: String,
    },
}

/// Suggests what a person could ask next in a dialog of theirs. Who goes away meanwhile finds it when they ask again.
pub async fn suggest(relay: &Arc<Relay>, caller: &Caller, dialog: &Dialog) -> Result<Suggested> {
    let salon = &relay.salon;
    let configured = salon.engines.find(&dialog.engine).filter(|_| salon.may_ask(caller, &dialog.engine).is_ok());
    let Some(Answers::Model(choice)) = configured.map(|configured| configured.answers) else {
        return Ok(Suggested::NoModel);
    };
    let Some(turn) = salon.store.read().await?.find_latest_answered(&dialog.id).await? else {
        return Ok(Suggested::NoAnswer);
    };
    let Some(key) = Key::parse(turn.id.as_str()) else { return Ok(Suggested::NoAnswer) };
    let work = match begin(relay, caller, &key).await? {
        Ok(work) => work,
        Err(known) => return Ok(known),
    };
    let (relay, caller, dialog) = (relay.clone(), caller.clone(), dialog.clone());
    // What was begun is paid for, so it ends and is remembered even if nobody waits any more.
    let made = tokio::spawn(async move {
        let made = ask(&relay, caller, &dialog, &choice, &turn).await;
        let kept = match &made {
            Ok(Suggested::Lines(lines)) => {
                let body = serde_json::to_vec(lines).map_err(|error| anyhow::anyhow!("lines are no JSON: {error}"))?;
                work.finish(200, &Vec::new(), &body).await
            }
            _ => work.forget().await,
        };
        if let Err(error) = kept {
            tracing::warn!(%error, turn.id = %turn.id, "suggestions cannot be remembered");
        }
        made
    });
    made.await.map_err(|error| anyhow::anyhow!("suggestions broke down: {error}"))?
}

/// Begins to make them, or finds what was made before or is being made just now.
async fn begin(relay: &Relay, caller: &Caller, key: &Key) -> Result<std::result::Result<Work, Suggested>> {
    let place = Route { org: &caller.org, user: &caller.user, route: ROUTE };
    let patience = tokio::time::Instant::now() + PATIENCE;
    loop {
        match relay.requests.begin(place, key, b"").await? {
            Begun::New(work) => return Ok(Ok(work)),
            Begun::Replay(replay) => return Ok(Err(remembered(&replay))),
            Begun::InProgress if tokio::time::Instant::now() < patience => tokio::time::sleep(LOOK_EVERY).await,
            Begun::InProgress | Begun::Mismatch => return Ok(Err(Suggested::Nothing)),
        }
    }
}

fn remembered(replay: &Replay) -> Suggested {
    let lines = replay.body.as_deref().and_then(|body| serde_json::from_slice::<Vec<String>>(body).ok());
    lines.filter(|lines| !lines.is_empty()).map_or(Suggested::Nothing, Suggested::Lines)
}

async fn ask(relay: &Arc<Relay>, caller: Caller, dialog: &Dialog, choice: &Choice, turn: &Turn) -> Result<Suggested> {
    let salon = &relay.salon;
    let thinks = salon.engines.temper(&dialog.engine, Wishes { max_output: Some(CAP), temperature: None });
    let brief = Brief {
        turn: turn.id.clone(),
        instructions: include_str!("../../../../prompts/suggest.md").trim().to_owned(),
        history: Vec::new(),
        question: shown(&turn.question, turn.answer.as_deref().unwrap_or_default()),
        pictures: Vec::new(),
        thread: None,
        wishes: Wishes { max_output: Some(thinks.max_output.unwrap_or(CAP_OF_THINKERS)), temperature: None },
    };
    let brief = panel::masked(mask_of(&salon.store, &caller.org).await?, &brief);
    let asker = asker(relay, caller, dialog, turn).await?.for_engine(salon, &dialog.engine);
    let model = match Model::begin(relay, asker, choice, &brief).await? {
        Boarding::Granted(model) => model,
        Boarding::Held => return Ok(Suggested::Held),
        Boarding::Refused(error) => return Ok(failed(error)),
    };
    let stop = CancellationToken::new();
    let _stops = stop.clone().drop_guard();
    let (mut emitter, mut events) = Emitter::channel(WAITING, stop);
    let heard = async {
        let mut said = String::new();
        while let Some(event) = events.recv().await {
            if let Event::Text { text } = event {
                said.push_str(&text);
            }
        }
        said
    };
    let answering = async move { model.answer(&brief, &mut emitter).await };
    match tokio::time::timeout(PATIENCE, async { tokio::join!(answering, heard) }).await {
        Ok((Ok(()), said)) => Ok(match suggestions(&said) {
            none if none.is_empty() => Suggested::Nothing,
            lines => Suggested::Lines(lines),
        }),
        Ok((Err(error), _)) => Ok(failed(error)),
        Err(_) => Ok(failed(salon_engine::upstream::Fault::Timeout.into())),
    }
}

fn failed(error: EngineError) -> Suggested {
    match error {
        EngineError::Failed { code, message } => Suggested::Failed { code, message },
        EngineError::Stopped => Suggested::Nothing,
    }
}

/// Who pays, and what the ledger calls it: a call beside the turn's own, or the one that an administrator decided about.
async fn asker(relay: &Relay, caller: Caller, dialog: &Dialog, turn: &Turn) -> Result<Asker> {
    let beside = format!("{}.s", turn.id);
    let decided = relay.salon.store.read().await?.list_decided(&turn.id).await?;
    let call = decided.into_iter().find(|call| call.as_str().starts_with(&beside));
    let asked = call.is_some();
    let call = call.unwrap_or_else(|| CallId::new(format!("{beside}{}", relay.salon.clock.id())));
    let asking = Asking { turn: turn.id.clone(), chat: chat_of(dialog), run: false };
    Ok(Asker { caller: Arc::new(caller), asking, call, asked })
}
