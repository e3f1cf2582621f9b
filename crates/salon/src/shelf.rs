//! A person's dialogs, wherever they were held: looked through, named, kept, gone on with in another way.

use salon_core::{Channel, Chosen, Dialog, DialogId, Time, Turn, TurnId};
use salon_store::{Result, Session, Shelved, Words};

use crate::Salon;
use crate::access::Caller;

const LONGEST_TITLE: usize = 200;
/// Turns that a dialog takes along when it goes its own way.
const TAKEN_ALONG: i64 = 500;

impl Salon {
    /// Opens a dialog that a person keeps.
    pub async fn open_dialog(&self, caller: &Caller, engine: &str) -> Result<Session> {
        let session = self.open_session(caller, engine, "{}".to_owned()).await?;
        let id = session.dialog.id.clone();
        self.store.write(id, |tx, id| Box::pin(tx.keep_dialog(id))).await?;
        Ok(session)
    }

    /// The caller's dialogs, newest first; with words, those in which they were said.
    pub async fn look_through(
        &self,
        caller: &Caller,
        words: Option<&Words>,
        before: (Time, &str),
        limit: i64,
    ) -> Result<Vec<Shelved>> {
        let keeper = self.keeper(caller).await?;
        self.store.read().await?.list_shelf(&keeper, words, before, limit).await
    }

    pub async fn find_shelved(&self, caller: &Caller, id: &DialogId) -> Result<Option<Shelved>> {
        let keeper = self.keeper(caller).await?;
        self.store.read().await?.find_shelved(&keeper, id).await
    }

    /// Calls a dialog something; nothing goes back to how it began. `false` if it is not the caller's.
    pub async fn rename_dialog(&self, caller: &Caller, id: &DialogId, title: &str) -> Result<bool> {
        let title: String = title.trim().chars().filter(|c| !c.is_control()).take(LONGEST_TITLE).collect();
        let args = (self.keeper(caller).await?, id.clone(), Some(title).filter(|title| !title.is_empty()));
        self.store
            .write(args, |tx, (keeper, id, title)| {
                Box::pin(async move {
                    if tx.find_shelved(keeper, id).await?.is_none() {
                        return Ok(false);
                    }
                    tx.set_title(id, title.as_deref()).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// Lets another engine answer in a dialog, in a style. `false` if it is not the caller's.
    pub async fn choose_engine(
        &self,
        caller: &Caller,
        id: &DialogId,
        engine: &str,
        style: Option<&str>,
    ) -> Result<bool> {
        let keeper = self.keeper(caller).await?;
        let args = (keeper, id.clone(), engine.to_owned(), style.map(str::to_owned), self.clock.now());
        self.store
            .write(args, |tx, (keeper, id, engine, style, now)| {
                Box::pin(async move {
                    let Some(known) = tx.find_shelved(keeper, id).await? else { return Ok(false) };
                    if known.dialog.engine != *engine {
                        tx.switch_engine(id, engine, *now).await?;
                    }
                    tx.set_style(id, style.as_deref()).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// A new dialog that begins like another one up to, and without, a turn. `None` if that is not the caller's.
    pub async fn branch_dialog(&self, caller: &Caller, id: &DialogId, number: i64) -> Result<Option<DialogId>> {
        let keeper = self.keeper(caller).await?;
        let Some(known) = self.store.read().await?.find_shelved(&keeper, id).await? else { return Ok(None) };
        let now = self.clock.now();
        let taken = (number - 1).clamp(0, TAKEN_ALONG.min(known.dialog.turns));
        let dialog = Dialog {
            id: DialogId::new(self.clock.id()),
            channel: Channel::Api,
            owner: Some(caller.user.clone()),
            thread: None,
            // What was said since is not remembered there.
            summary: String::new(),
            window_from: 1,
            turns: 0,
            active: true,
            chosen: Chosen { trusted_until: None, ..known.dialog.chosen.clone() },
            created_at: now,
            updated_at: now,
            ..known.dialog.clone()
        };
        let new = dialog.id.clone();
        let ids: Vec<TurnId> = (0..taken).map(|_| TurnId::new(self.clock.id())).collect();
        let session = Session { dialog, metadata: "{}".to_owned(), seen_at: now };
        let args = (session, id.clone(), number, ids, known.style);
        self.store
            .write(args, |tx, (session, from, number, ids, style)| {
                Box::pin(async move {
                    let new = &session.dialog.id;
                    tx.add_session(session).await?;
                    tx.keep_dialog(new).await?;
                    tx.set_style(new, style.as_deref()).await?;
                    tx.copy_turns(from, *number, new, ids).await
                })
            })
            .await?;
        Ok(Some(new))
    }

    /// A turn of one of the caller's dialogs, found through it.
    pub async fn find_turn_of(&self, caller: &Caller, id: &DialogId, turn: &TurnId) -> Result<Option<Turn>> {
        let keeper = self.keeper(caller).await?;
        let mut tx = self.store.read().await?;
        if tx.find_shelved(&keeper, id).await?.is_none() {
            return Ok(None);
        }
        Ok(tx.find_turn(turn).await?.filter(|turn| turn.dialog == *id))
    }
}
