//! An answer while it is written, for the page's script: what changed of its HTML, then the whole turn.
//!
//! Frames are `answer` (blocks from a place on), `aside` (what stands beside), and at the end `whole`, or `gone` if its reader
//! is logged in no more. Each holds one JSON object on one line, so nothing that a model writes can become a frame.

use std::time::Duration;

use askama::Template;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use salon::logins::Visit;
use salon_core::{DialogId, Reply, TurnId};
use salon_store::Realm;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::dialogs::shell_of;
use super::super::markdown::blocks;
use super::super::shell::Shell;
use super::super::visitor::{Visitor, visit};
use super::super::{broken, missing, refuse};
use super::{Shown, aside, brought, others, turn_shown};
use crate::api::frames::{Frames, response as streamed};
use crate::{Web, crowd};

/// Frames that may wait for a slow reader.
const WAITING: usize = 64;
/// An answer is shown so often at most.
const EVERY: Duration = Duration::from_millis(90);
const SILENCE: Duration = Duration::from_secs(15);
/// How often it is asked whether the reader may still read.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// `GET /dialogs/{dialog}/turns/{turn}/stream`
pub(crate) async fn stream(
    State(web): State<Web>,
    Path((dialog, turn)): Path<(String, String)>,
    headers: HeaderMap,
    Visitor(visitor): Visitor,
) -> Response {
    let shell = shell_of(&web, &visitor, &headers);
    let (dialog, turn) = (DialogId::new(dialog), TurnId::new(turn));
    match web.salon.find_turn_of(&visitor.caller, &dialog, &turn).await {
        Ok(Some(_)) => {}
        Ok(None) => return missing(&shell),
        Err(error) => return broken(&shell, &error),
    }
    let Ok(place) = crowd::stream(&web, &visitor.caller) else {
        let mut response = refuse(&shell, StatusCode::TOO_MANY_REQUESTS, "too_many_streams");
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        return response;
    };
    let (said, heard) = mpsc::channel::<Bytes>(WAITING);
    let teller = Teller { web, visitor, headers, shell, dialog, turn, shown: Vec::new(), beside: String::new() };
    tokio::spawn(tell(teller, said));
    crowd::keeping(place, streamed(Body::new(Frames(heard))))
}

struct Teller {
    web: Web,
    visitor: Visit,
    headers: HeaderMap,
    shell: Shell,
    dialog: DialogId,
    turn: TurnId,
    /// The blocks that the reader has.
    shown: Vec<String>,
    beside: String,
}

async fn tell(mut teller: Teller, said: mpsc::Sender<Bytes>) {
    let salon = teller.web.salon.clone();
    let turn = teller.turn.clone();
    let mut follow = salon.follow(&turn, 0);
    let mut reply = Reply::default();
    let (began, mut spoke) = (Instant::now(), Instant::now());
    let mut look = tokio::time::interval(LOOK_EVERY);
    // When what changed may be shown, if something did.
    let mut due: Option<Instant> = None;
    loop {
        let frames = tokio::select! {
            events = follow.next() => match events {
                Ok(Some(events)) => {
                    events.iter().for_each(|event| reply.push(event));
                    due = due.or(Some(spoke + EVERY));
                    continue;
                }
                Ok(None) => {
                    if let Some(frame) = teller.whole(&reply).await {
                        said.send(frame.into()).await.ok();
                    }
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, turn.id = %teller.turn, "a turn cannot be followed");
                    return;
                }
            },
            () = until(due) => {
                due = None;
                teller.changes(&reply)
            }
            () = said.closed() => return,
            _ = look.tick() => {
                let may_read = if began.elapsed() > LONGEST { None } else { teller.may_read().await };
                match may_read {
                    Some(true) => {}
                    Some(false) => {
                        said.send(frame("gone", &json!({})).into()).await.ok();
                        return;
                    }
                    // The browser comes again by itself.
                    None => return,
                }
                if spoke.elapsed() >= SILENCE { b": still there\n\n".to_vec() } else { Vec::new() }
            }
        };
        if !frames.is_empty() {
            spoke = Instant::now();
            if said.send(frames.into()).await.is_err() {
                return;
            }
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

impl Teller {
    /// Whether who came in is still there; `None` if that cannot be told just now.
    async fn may_read(&self) -> Option<bool> {
        let now = visit(&self.web, &self.headers, Realm::House).await.ok()?;
        Some(now.is_some_and(|now| now.login.id == self.visitor.login.id))
    }

    fn changes(&mut self, reply: &Reply) -> Vec<u8> {
        let mut frames = Vec::new();
        let blocks = blocks(&reply.text);
        let same = blocks.iter().zip(&self.shown).take_while(|(new, old)| new == old).count();
        if same < blocks.len() || same < self.shown.len() {
            frames.extend(frame("answer", &json!({ "from": same, "blocks": blocks[same..] })));
            self.shown = blocks;
        }
        let beside = aside(&self.shell, self.dialog.as_str(), reply);
        if beside != self.beside {
            frames.extend(frame("aside", &json!({ "html": beside })));
            self.beside = beside;
        }
        frames
    }

    /// The turn as it ended, with what it cost.
    async fn whole(&self, reply: &Reply) -> Option<Vec<u8>> {
        let turn = self.web.salon.find_turn_of(&self.visitor.caller, &self.dialog, &self.turn).await.ok()??;
        let costs = async { self.web.relay.book.read().await?.costs_of_dialog(&self.dialog).await };
        let costs = costs.await.unwrap_or_default();
        let cost = costs.iter().find(|(id, _)| *id == turn.id).map_or(0, |(_, micros)| *micros);
        let brought = brought(&self.web, &turn.id).await;
        let others = others(&self.web, &self.visitor, &turn, reply);
        let html = Shown { brought, others, ..turn_shown(&self.shell, turn, reply, cost) }.render().ok()?;
        Some(frame("whole", &json!({ "html": html })))
    }
}

fn frame(name: &str, data: &Value) -> Vec<u8> {
    format!("event: {name}\ndata: {data}\n\n").into_bytes()
}
