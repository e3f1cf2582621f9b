//! Attempts, and the ends of calls.

use salon_core::limit::crossed;
use salon_core::{Amounts, CallId, Time, Tokens};
use salon_store::ledger::{AttemptEnd, AttemptRow, AttemptState, Call, CallState, Crossing, Entry, EntryKind};

use super::{Attempt, Failed, Group, Known, Spent, Unknown};

impl Group<'_> {
    pub(super) fn attempt(&mut self, call: &CallId, failed: Option<&Failed>, next: &Attempt, at: Time) {
        if let Some(failed) = failed {
            let state = if failed.unknown { AttemptState::Unknown } else { AttemptState::Failed };
            self.end_attempt(call, failed.n, state, Some(failed.note.clone()));
        }
        let row = AttemptRow {
            call: call.clone(),
            attempt: next.clone(),
            state: AttemptState::Started,
            started_at: at,
            ended_at: None,
            note: None,
        };
        self.attempts.entry((call.clone(), next.n)).or_insert(row);
    }

    fn end_attempt(&mut self, call: &CallId, n: i64, state: AttemptState, note: Option<String>) {
        match self.attempts.get_mut(&(call.clone(), n)) {
            Some(row) => (row.state, row.note, row.ended_at) = (state, note, Some(self.post.now)),
            None => self.attempt_ends.push(AttemptEnd { call: call.clone(), n, state, note }),
        }
    }

    /// Ends the attempts of a call that have not ended, those of earlier transactions included.
    pub(super) fn close_attempts(&mut self, call: &CallId, state: AttemptState) {
        let now = self.post.now;
        let rows = self.attempts.range_mut((call.clone(), i64::MIN)..=(call.clone(), i64::MAX));
        for (_, row) in rows.filter(|(_, row)| row.state == AttemptState::Started) {
            (row.state, row.ended_at) = (state, Some(now));
        }
        // What is written here for the first time has no others.
        if !self.calls.get(call).is_some_and(|known| known.fresh) {
            self.closed.insert(call.clone(), state);
        }
    }

    pub(super) fn settle(&mut self, id: &CallId, spent: &Spent, at: Time, nonce: Option<i64>) {
        if let Some(nonce) = nonce {
            let granted = |known: &Known| known.call.nonce == nonce;
            if !self.calls.get(id).is_some_and(granted) {
                return;
            }
        }
        let Some(known) = self.calls.get_mut(id) else {
            tracing::error!(call.id = %id, "a call that was never reserved cannot be settled");
            return;
        };
        let before = known.call.state;
        match before {
            CallState::Settled => return,
            CallState::Held | CallState::Approved | CallState::Denied => {
                tracing::error!(call.id = %id, state = before.as_str(), "a call that may not be made cannot be settled");
                return;
            }
            CallState::Reserved | CallState::Released | CallState::Unknown => {}
        }
        (known.call.state, known.call.ended_at, known.ended) = (CallState::Settled, Some(self.post.now), true);
        let call = known.call.clone();
        let amounts = spent.amounts();
        let returned = self.adjusted.remove(id);
        for account in self.accounts_of(&call.payer, call.at) {
            let measure = self.accounts[account].key.measure;
            let taken = self.accounts[account].spent;
            self.change(account, |account| {
                if before == CallState::Reserved {
                    account.give_back(call.most.of(measure));
                }
                account.spent = account.spent.saturating_add(amounts.of(measure));
                if let Some(returned) = &returned {
                    account.spent = (account.spent - returned.of(measure)).max(0);
                }
            });
            self.excuse(account);
            self.note_crossings(account, taken);
        }
        if let Some(returned) = returned {
            let back = Amounts { micros: -returned.micros, tokens: -returned.tokens, requests: -returned.requests };
            self.entries.push(adjustment(&call, "return", back, at));
        }
        if let Some(n) = spent.attempt {
            self.end_attempt(id, n, AttemptState::Ok, None);
        }
        // An earlier attempt may have been given up without a word.
        self.close_attempts(id, AttemptState::Unknown);
        self.entries.push(Entry {
            key: format!("settle:{id}"),
            kind: EntryKind::Settle,
            payer: call.payer,
            door: call.door,
            model: call.model,
            upstream: spent.upstream.clone(),
            upstream_model: spent.upstream_model.clone(),
            whose: spent.whose.clone(),
            tokens: spent.tokens,
            amounts,
            estimated: spent.estimated,
            suspect: spent.suspect,
            cache_hit: spent.cache_hit,
            call: call.id,
            at: call.at,
            settled_at: at,
        });
    }

    pub(super) fn release(&mut self, id: &CallId, why: &str) {
        tracing::debug!(call.id = %id, why, "a call is released");
        if self.end_reserved(id, CallState::Released).is_some() {
            self.close_attempts(id, AttemptState::Failed);
        }
    }

    /// Ends a call that nobody came back for.
    pub(super) fn give_up(&mut self, id: &CallId) {
        let sent = self.attempted.contains(id)
            || self.attempts.range((id.clone(), i64::MIN)..=(id.clone(), i64::MAX)).next().is_some();
        if !sent {
            self.end_reserved(id, CallState::Released);
            return;
        }
        let Some(call) = self.end_reserved(id, CallState::Unknown) else { return };
        self.close_attempts(id, AttemptState::Unknown);
        if self.post.unknown == Unknown::UpperBound {
            for account in self.accounts_of(&call.payer, call.at) {
                let (measure, taken) = (self.accounts[account].key.measure, self.accounts[account].spent);
                self.change(account, |account| {
                    account.spent = account.spent.saturating_add(call.most.of(measure));
                });
                self.excuse(account);
                self.note_crossings(account, taken);
            }
            self.entries.push(adjustment(&call, "adjust", call.most, self.post.now));
        }
    }

    /// Gives back what is reserved for a call. `None` if nothing is.
    fn end_reserved(&mut self, id: &CallId, to: CallState) -> Option<Call> {
        let known = self.calls.get_mut(id).filter(|known| known.call.state == CallState::Reserved)?;
        (known.call.state, known.call.ended_at, known.ended) = (to, Some(self.post.now), true);
        let call = known.call.clone();
        for account in self.accounts_of(&call.payer, call.at) {
            let measure = self.accounts[account].key.measure;
            self.change(account, |account| account.give_back(call.most.of(measure)));
            self.excuse(account);
        }
        Some(call)
    }

    fn note_crossings(&mut self, account: usize, before: i64) {
        let account = &self.accounts[account];
        let key = &account.key;
        let limits = self.limits.on(&key.holder.org, key.holder.scope, &key.holder.subject);
        for limit in limits.filter(|limit| (limit.measure, limit.period) == (key.measure, key.period)) {
            for threshold in crossed(before, account.spent, limit.amount, &limit.thresholds) {
                let (limit, account) = (limit.id.clone(), account.id.clone());
                self.crossings.push(Crossing { limit, account, threshold, at: self.post.now });
            }
        }
    }
}

fn adjustment(call: &Call, word: &str, amounts: Amounts, at: Time) -> Entry {
    Entry {
        key: format!("{word}:{}", call.id),
        kind: EntryKind::Adjust,
        call: call.id.clone(),
        payer: call.payer.clone(),
        door: call.door.clone(),
        model: call.model.clone(),
        upstream: String::new(),
        upstream_model: String::new(),
        whose: String::new(),
        tokens: Tokens::default(),
        amounts,
        estimated: true,
        suspect: false,
        cache_hit: false,
        at: call.at,
        settled_at: at,
    }
}
