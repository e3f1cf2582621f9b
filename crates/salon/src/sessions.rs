//! Sessions: dialogs that a program opens, asks in and follows. What is asked is said, run and followed like anything
//! else; this is who may do it in which dialog.

use std::path::Path;
use std::time::Duration;

use salon_core::brief::Picture;
use salon_core::{AskId, Channel, Chosen, Dialog, DialogId, FileId, Refusal, Time, Turn, TurnId, UserId, Wishes};
use salon_engine::sandbox::artifacts::{HEAD, media};
use salon_store::{AskState, Error, Keeper, Request, Result, Session, StoredFile, Tx};

use crate::Salon;
use crate::access::{Caller, Denied};
use crate::say::{Utterance, say};
use crate::stop::stop_dialog;

/// How sessions behave.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionSettings {
    /// Who answers where nobody says.
    pub engine: String,
    /// What is wished of answers where nobody says.
    pub wishes: Wishes,
    pub frames: Frames,
    /// Who makes embeddings for clients of the LLM server, if they name no model that is known.
    pub embedder: Option<String>,
    /// Sessions that nobody has looked at for so long are deleted. `None` keeps them.
    pub timeout: Option<Duration>,
}

impl Default for SessionSettings {
    fn default() -> Self {
        SessionSettings {
            engine: "model".to_owned(),
            wishes: Wishes::default(),
            frames: Frames::default(),
            embedder: None,
            timeout: Some(Duration::from_secs(24 * 60 * 60)),
        }
    }
}

/// In which frames a session's answer is streamed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Frames {
    /// `token`, with what is new: what the present clients of sessions read.
    #[default]
    Token,
    /// `chunk`, with what is new and everything before it: what the first ones read.
    Chunk,
}

impl Frames {
    pub fn parse(text: &str) -> Option<Frames> {
        match text {
            "token" => Some(Frames::Token),
            "chunk" => Some(Frames::Chunk),
            _ => None,
        }
    }
}

/// A question in a session.
#[derive(Clone, Debug)]
pub struct Question {
    pub text: String,
    /// Who answers this one, if not whoever answers in the session.
    pub engine: Option<String>,
    pub wishes: Wishes,
    /// What the program calls the request. The same request is asked once.
    pub request: Option<Request>,
    /// Pictures that belong to the question.
    pub pictures: Vec<Picture>,
}

/// Files that may come with one question, and how long each may be, in bytes.
pub const MOST_FILES: usize = 4;
pub const LONGEST_PICTURE: usize = 8 << 20;
const LONGEST_TEXT: usize = 256 << 10;
const LONGEST_FILE_NAME: usize = 100;

/// Why a file cannot come with a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotBrought {
    TooMany,
    TooLong,
    /// It is neither a picture that models know, nor text.
    Unknown,
}

impl Question {
    /// Brings a file: a picture beside the words, a text among them. What it is, its bytes say.
    pub fn bring(&mut self, name: &str, data: Vec<u8>) -> std::result::Result<(), NotBrought> {
        let name: String = name.chars().filter(|c| !c.is_control()).take(LONGEST_FILE_NAME).collect();
        let media = media(&data[..data.len().min(HEAD)], Path::new(&name));
        if media.starts_with("image/") && media != "image/svg+xml" {
            if data.len() > LONGEST_PICTURE {
                return Err(NotBrought::TooLong);
            }
            if self.pictures.len() >= MOST_FILES {
                return Err(NotBrought::TooMany);
            }
            self.pictures.push(Picture { name, media: media.to_owned(), data });
            return Ok(());
        }
        if data.len() > LONGEST_TEXT {
            return Err(NotBrought::TooLong);
        }
        let text = String::from_utf8(data).map_err(|_| NotBrought::Unknown)?;
        if text.contains('\0') {
            return Err(NotBrought::Unknown);
        }
        // A fence that is longer than any in the text.
        let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
        let fence = "`".repeat(longest.max(2) + 1);
        self.text.push_str(&format!("\n\n{name}:\n{fence}\n{}\n{fence}", text.trim_end()));
        Ok(())
    }
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// This turn will answer it.
    Turn(TurnId),
    /// The same request came before, and has its turn.
    Again(TurnId),
    /// The request was another one before.
    Mismatch,
    /// There is no such session, or it is somebody else's.
    Gone,
    /// The caller's key is not for who would answer.
    Denied(Denied),
    /// Too much waits in the session already.
    Full(Refusal),
}

impl Salon {
    /// Whose sessions a caller may see: the user's own, and those of the same person in Telegram.
    pub(crate) async fn keeper(&self, caller: &Caller) -> Result<Keeper> {
        let user = self.store.read().await?.find_user(&caller.user).await?;
        Ok(Keeper { user: caller.user.clone(), telegram: user.and_then(|user| user.telegram) })
    }

    /// Opens a session. `metadata` is a JSON object that is kept with it.
    pub async fn open_session(&self, caller: &Caller, engine: &str, metadata: String) -> Result<Session> {
        let now = self.clock.now();
        let dialog = Dialog {
            id: DialogId::new(self.clock.id()),
            channel: Channel::Api,
            owner: Some(caller.user.clone()),
            engine: engine.to_owned(),
            view: None,
            thread: None,
            summary: String::new(),
            window_from: 1,
            turns: 0,
            active: true,
            chosen: Chosen::default(),
            created_at: now,
            updated_at: now,
        };
        let session = Session { dialog, metadata, seen_at: now };
        let added = self.store.write(session.clone(), |tx, session| Box::pin(tx.add_session(session))).await?;
        if added { Ok(session) } else { Err(anyhow::anyhow!("a new session existed already").into()) }
    }

    /// A session of the caller's; that somebody looked at it is noted.
    pub async fn find_session(&self, caller: &Caller, id: &DialogId) -> Result<Option<Session>> {
        let keeper = self.keeper(caller).await?;
        let Some(session) = self.store.read().await?.find_session(&keeper, id).await? else { return Ok(None) };
        let now = self.clock.now();
        let args = (id.clone(), now);
        self.store.write(args, |tx, (id, now)| Box::pin(async move { tx.see_session(id, *now).await })).await?;
        Ok(Some(Session { seen_at: session.seen_at.max(now), ..session }))
    }

    /// The caller's sessions in which something happened last before `before`, newest first.
    pub async fn list_sessions(&self, caller: &Caller, before: (Time, &str), limit: i64) -> Result<Vec<Session>> {
        let keeper = self.keeper(caller).await?;
        self.store.read().await?.list_sessions(&keeper, before, limit).await
    }

    /// The newest turns of a session that was found before, oldest first.
    pub async fn list_turns(&self, session: &Session, newest: i64) -> Result<Vec<Turn>> {
        self.store.read().await?.list_turns_before(&session.dialog.id, i64::MAX, newest).await
    }

    /// Deletes a session with everything that was said in it. Whatever is being answered there is stopped. `false` if
    /// there is none, or it is somebody else's.
    pub async fn delete_session(&self, caller: &Caller, id: &DialogId) -> Result<bool> {
        let args = (self.keeper(caller).await?, id.clone(), self.clock.now());
        self.store
            .write(args, |tx, (keeper, id, now)| {
                Box::pin(async move {
                    if tx.find_session(keeper, id).await?.is_none() {
                        return Ok(false);
                    }
                    stop_dialog(tx, id, *now).await?;
                    tx.remove_dialog(id, *now).await?;
                    tx.purge_dialogs().await?;
                    Ok(true)
                })
            })
            .await
    }

    /// Stops whatever is being answered, or waits to be, in a session. `None` if there is no such session.
    pub async fn stop_session(&self, caller: &Caller, id: &DialogId) -> Result<Option<bool>> {
        let args = (self.keeper(caller).await?, id.clone(), self.clock.now());
        self.store
            .write(args, |tx, (keeper, id, now)| {
                Box::pin(async move {
                    match tx.find_session(keeper, id).await? {
                        Some(_) => stop_dialog(tx, id, *now).await.map(Some),
                        None => Ok(None),
                    }
                })
            })
            .await
    }

    /// A file that was left in a session. `None` if there is no such file there, or no such session.
    pub async fn find_left_file(&self, caller: &Caller, id: &DialogId, file: &FileId) -> Result<Option<StoredFile>> {
        let keeper = self.keeper(caller).await?;
        let mut tx = self.store.read().await?;
        if tx.find_session(&keeper, id).await?.is_none() {
            return Ok(None);
        }
        let Some(file) = tx.find_file(file).await? else { return Ok(None) };
        let turn = tx.find_turn(&file.turn).await?;
        Ok(turn.is_some_and(|turn| turn.dialog == *id).then_some(file))
    }

    /// Answers what an agent asks in a session. `None` if it asks no such thing there, `false` if that was answered already
    /// or nobody waits any more.
    pub async fn answer_in_session(
        &self,
        caller: &Caller,
        id: &DialogId,
        ask: &AskId,
        state: AskState,
    ) -> Result<Option<bool>> {
        let keeper = self.keeper(caller).await?;
        let args = (keeper, id.clone(), ask.clone(), state, caller.user.clone(), self.clock.now());
        self.store
            .write(args, |tx, (keeper, id, ask, state, by, now)| {
                Box::pin(async move {
                    if tx.find_session(keeper, id).await?.is_none() {
                        return Ok(None);
                    }
                    let Some(ask) = tx.find_ask(ask).await? else { return Ok(None) };
                    if tx.find_turn(&ask.turn).await?.is_none_or(|turn| turn.dialog != *id) {
                        return Ok(None);
                    }
                    tx.answer_ask(&ask, *state, Some(by.as_str()), *now).await.map(Some)
                })
            })
            .await
    }

    /// Whether the caller's key may be used for an engine: by the engine's name, or by that of the model behind it.
    pub fn may_ask(&self, caller: &Caller, engine: &str) -> Result<(), Denied> {
        if self.may_choose(&caller.scopes, engine) { Ok(()) } else { Err(Denied::Model) }
    }

    fn may_choose(&self, scopes: &salon_core::Scopes, engine: &str) -> bool {
        let model = self.engines.find(engine).and_then(|configured| configured.model);
        // A model is also known by its own name, without the upstream before it.
        let bare = model.as_deref().and_then(|model| model.split_once(':')).map(|(_, bare)| bare.to_owned());
        let names = [Some(engine.to_owned()), model, bare];
        names.into_iter().flatten().any(|name| scopes.allow_model(&name))
    }

    /// Whether somebody may choose an engine: what is no model is for everybody.
    pub fn may_be_answered_by(&self, account: &salon_store::Account, engine: &str) -> bool {
        let is_model = |configured: crate::Configured| matches!(configured.answers, crate::engines::Answers::Model(_));
        !self.engines.find(engine).is_some_and(is_model) || self.may_choose(&crate::logins::reach(account), engine)
    }

    /// Asks in a session. A request that came before finds the turn that it made.
    pub async fn ask_in_session(&self, caller: &Caller, id: &DialogId, question: Question) -> Result<Asked> {
        let keeper = self.keeper(caller).await?;
        let Some(session) = self.store.read().await?.find_session(&keeper, id).await? else { return Ok(Asked::Gone) };
        let engine = question.engine.as_deref().unwrap_or(&session.dialog.engine);
        if let Err(denied) = self.may_ask(caller, engine) {
            return Ok(Asked::Denied(denied));
        }
        let utterance = self
            .utterance(id, engine, None, &question.text, None)
            .asked_by(&caller.user, caller.key.as_ref())
            .wishing(question.wishes)
            .requested(question.request.clone());
        let turn = utterance.turn().clone();
        let files = question.pictures.into_iter().map(|picture| StoredFile {
            id: FileId::new(self.clock.id()),
            turn: turn.clone(),
            name: picture.name,
            media: picture.media,
            data: picture.data,
        });
        let files: Vec<StoredFile> = files.collect();
        let args = (keeper, id.clone(), utterance, question.request, files, self.clock.now());
        let asked = self.store.write(args, |tx, (keeper, id, utterance, request, files, now)| {
            Box::pin(async move {
                let asked = ask(tx, keeper, id, utterance, request.as_ref(), *now).await?;
                // A request that came before found its own turn, which has them.
                if matches!(asked, Asked::Turn(_)) {
                    for file in files.iter() {
                        tx.add_brought(file, *now).await?;
                    }
                }
                Ok(asked)
            })
        });
        match asked.await {
            Err(Error::Refused(refusal)) => Ok(Asked::Full(refusal)),
            asked => asked,
        }
    }

    /// The turn with this id, or the newest one, of a session that was found before.
    pub async fn turn_of_session(&self, session: &Session, turn: Option<&TurnId>) -> Result<Option<TurnId>> {
        let mut tx = self.store.read().await?;
        let dialog = &session.dialog.id;
        match turn {
            Some(turn) => Ok(tx.find_turn(turn).await?.filter(|turn| turn.dialog == *dialog).map(|turn| turn.id)),
            None => tx.find_latest_turn(dialog).await,
        }
    }

    /// Sweeps sessions that nobody has looked at since `before`, and what was deleted.
    pub async fn sweep_sessions(&self, before: Option<Time>) -> Result<u64> {
        let args = (before, self.clock.now());
        self.store
            .write(args, |tx, (before, now)| {
                Box::pin(async move {
                    let expired = match before {
                        Some(before) => tx.expire_sessions(*before, *now).await?,
                        None => 0,
                    };
                    Ok(expired.max(tx.purge_dialogs().await?))
                })
            })
            .await
    }
}

async fn ask(
    tx: &mut Tx,
    keeper: &Keeper,
    id: &DialogId,
    utterance: &Utterance,
    request: Option<&Request>,
    now: Time,
) -> Result<Asked> {
    // Once more, in here: it may have been deleted since.
    if tx.find_session(keeper, id).await?.is_none() {
        return Ok(Asked::Gone);
    }
    // The dialog's row is locked by this, so two of the same request come one after the other.
    tx.see_session(id, now).await?;
    if let Some(request) = request
        && let Some((turn, hash)) = tx.find_turn_of_request(id, &request.key).await?
    {
        return Ok(if hash == request.hash { Asked::Again(turn) } else { Asked::Mismatch });
    }
    Ok(Asked::Turn(say(tx, utterance).await?.turn))
}

/// Whoever asks without saying who they are, where that is allowed: one user for all of them.
pub const ANYBODY: &str = "anybody";

/// The user as whom those ask who say not who they are; made if there is none yet.
pub async fn anybody(salon: &Salon) -> Result<Caller> {
    use salon_core::{OrgId, Scopes, User, limit::Zone, people::Role};
    let user = User {
        id: UserId::new(ANYBODY),
        org: OrgId::new(crate::people::DEFAULT_ORG),
        name: "Anybody on this machine".to_owned(),
        email: None,
        role: Role::User,
        active: true,
        telegram: None,
        subject: None,
        created_at: salon.clock.now(),
    };
    salon.store.write(user.clone(), |tx, user| Box::pin(tx.add_user(user))).await?;
    let org = salon.store.read().await?.find_org(&user.org).await?;
    let zone = org.and_then(|org| Zone::find(&org.zone)).unwrap_or_else(Zone::utc);
    Ok(Caller { org: user.org, zone, user: user.id, role: user.role, key: None, scopes: Scopes::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Question {
        let (text, wishes) = ("look".to_owned(), Wishes::default());
        Question { text, engine: None, wishes, request: None, pictures: Vec::new() }
    }

    #[test]
    fn a_picture_is_known_by_its_bytes_and_a_text_is_quoted() {
        let mut asked = question();
        assert_eq!(asked.bring("a.txt", b"\x89PNG\r\n\x1a\n....".to_vec()), Ok(()));
        assert_eq!(asked.pictures[0].media, "image/png");
        assert_eq!(asked.bring("n\note.md", b"one ```` two\n".to_vec()), Ok(()));
        assert_eq!(asked.text, "look\n\nnote.md:\n`````\none ```` two\n`````");
    }

    #[test]
    fn what_models_do_not_know_is_refused() {
        let mut asked = question();
        assert_eq!(asked.bring("a.png", vec![0, 159, 146, 150]), Err(NotBrought::Unknown));
        assert_eq!(asked.bring("a.txt", vec![b'a'; LONGEST_TEXT + 1]), Err(NotBrought::TooLong));
        for _ in 0..MOST_FILES {
            assert_eq!(asked.bring("a.gif", b"GIF89a".to_vec()), Ok(()));
        }
        assert_eq!(asked.bring("a.gif", b"GIF89a".to_vec()), Err(NotBrought::TooMany));
        assert_eq!(asked.text, "look");
    }
}
