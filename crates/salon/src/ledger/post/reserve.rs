//! Deciding whether a call may be made.

use std::collections::BTreeMap;

use salon_core::limit::{Balance, Headroom, Verdict, judge};
use salon_core::{Amounts, CallId, Limit, Policy, Time};
use salon_store::ledger::{Account, AccountKey, AttemptState, Call, CallState, Payer};
use salon_store::{Result, Tx};

use super::{Granted, Group, HELD, Known, NotReserved, Passage, Quote, Share, Standing};

/// A reservation that is asked for.
pub(super) struct Asked<'q> {
    pub(super) quote: &'q Quote,
    pub(super) at: Time,
    pub(super) passage: Passage,
    pub(super) nonce: i64,
}

impl Group<'_> {
    pub(super) async fn reserve(
        &mut self,
        tx: &mut Tx,
        asked: &Asked<'_>,
    ) -> Result<std::result::Result<Granted, NotReserved>> {
        let Asked { quote, at, passage, nonce } = *asked;
        let limits = self.limits.clone();
        let applying = self.applying(&limits, &quote.payer, at);
        let mut approved = false;
        if let Some(Known { call, .. }) = self.calls.get(&quote.call) {
            let same = call.payer.org == quote.payer.org && call.payer.user == quote.payer.user;
            match call.state {
                // This very step was run before, perhaps with the one that settles it.
                CallState::Reserved | CallState::Settled if call.nonce == nonce => {
                    return Ok(Ok(self.granted(&applying, at)));
                }
                // A yes is good for what was asked, and not for something dearer under the same number.
                CallState::Approved if same && quote.model == call.model && quote.most.fits_in(&call.most) => {
                    approved = true;
                }
                CallState::Approved if same => return Ok(Err(NotReserved::Denied)),
                // What it waits for may be there by now: the limit was raised or taken away, or its window has ended.
                CallState::Held if same && quote.model == call.model && quote.most.fits_in(&call.most) => {}
                CallState::Held if same => {
                    return Ok(Err(NotReserved::Held { call: call.id.clone(), limit: call.limit.clone() }));
                }
                CallState::Denied if same => return Ok(Err(NotReserved::Denied)),
                _ => return Ok(Err(NotReserved::Duplicate)),
            }
        }
        if let Some(Share::Of(all)) = quote.share.as_deref()
            && self.take_share(asked, all)
        {
            return Ok(Ok(self.granted(&applying, at)));
        }
        let deciding: Vec<(&Limit, usize)> =
            applying.iter().filter_map(|(limit, key)| Some((*limit, self.find(key)?))).collect();
        self.set_caps(&deciding, &quote.payer, at);

        let noted = passage == Passage::Noted;
        let stopped =
            deciding.iter().map(|(_, account)| &self.accounts[*account]).find(|a| a.stopped.is_some() && !noted);
        let mut refusal = stopped.map(|account| NotReserved::Stopped { account: account.id.clone() });
        if refusal.is_none() && !noted {
            let over = deciding.iter().enumerate().filter_map(|(n, (limit, account))| {
                let account = &self.accounts[*account];
                let most = asked_about(quote, limit);
                let fits = balance(account).has_room(most.of(limit.measure), limit.amount);
                (!fits).then_some((n, limit.policy, account.key.window))
            });
            refusal = match judge(over, approved) {
                Verdict::Pass => None,
                // All of it was begun without a yes, and nobody waits for one in its middle.
                Verdict::Ask(n) if matches!(quote.share.as_deref(), Some(Share::Of(_))) => {
                    let (limit, account) = deciding[n];
                    Some(NotReserved::Over(Box::new(self.standing(limit, account, at))))
                }
                Verdict::Ask(n) => {
                    let limit = deciding[n].0;
                    let call = self.hold(tx, asked, limit).await?;
                    Some(NotReserved::Held { call, limit: Some(limit.id.clone()) })
                }
                Verdict::Refuse(n) => {
                    let (limit, account) = deciding[n];
                    Some(NotReserved::Over(Box::new(self.standing(limit, account, at))))
                }
            };
        }
        if let Some(refusal) = refusal {
            if passage == Passage::Passed {
                self.note_passed(asked, &refusal);
            }
            return Ok(Err(refusal));
        }
        for account in self.accounts_of(&quote.payer, at) {
            let more = quote.most.of(self.accounts[account].key.measure).max(0);
            self.change(account, |account| account.reserved = account.reserved.saturating_add(more));
            if approved || noted {
                self.excuse(account);
            }
        }
        self.add_call(asked, CallState::Reserved, quote.deadline, None);
        if let Some(first) = &quote.first {
            self.attempt(&quote.call, None, first, at);
        }
        Ok(Ok(self.granted(&applying, at)))
    }

    /// Reserves a share out of what is set aside for all of them: an administrator agreed to that, so it is not judged again.
    /// `false` if nothing is set aside, or too little.
    fn take_share(&mut self, asked: &Asked<'_>, all: &CallId) -> bool {
        let Asked { quote, at, .. } = *asked;
        let share = not_less(&quote.most);
        let Some(known) = self.calls.get_mut(all) else { return false };
        let (whole, payer) = (&known.call, &quote.payer);
        let same = whole.payer.org == payer.org && whole.payer.user == payer.user;
        if !same || whole.state != CallState::Reserved || !share.fits_in(&whole.most) {
            return false;
        }
        known.call.most = less(&known.call.most, &share);
        known.fresh = true;
        let (since, payer) = (known.call.at, known.call.payer.clone());
        for account in self.accounts_of(&payer, since) {
            let measure = self.accounts[account].key.measure;
            self.change(account, |account| account.give_back(share.of(measure)));
        }
        for account in self.accounts_of(&quote.payer, at) {
            let more = share.of(self.accounts[account].key.measure);
            self.change(account, |account| account.reserved = account.reserved.saturating_add(more));
            self.excuse(account);
        }
        self.add_call(asked, CallState::Reserved, quote.deadline, None);
        if let Some(first) = &quote.first {
            self.attempt(&quote.call, None, first, at);
        }
        true
    }

    /// The cap of an account is the lowest amount of the limits that speak of it. Where the organisation's zone was
    /// changed, there may be other windows beside; nothing is decided by those any more.
    fn set_caps(&mut self, deciding: &[(&Limit, usize)], payer: &Payer, at: Time) {
        let mut caps: BTreeMap<usize, Option<i64>> =
            self.accounts_of(payer, at).into_iter().map(|account| (account, None)).collect();
        for (limit, account) in deciding {
            let cap = caps.entry(*account).or_default();
            *cap = lower(*cap, limit);
        }
        for (account, cap) in caps {
            if self.accounts[account].cap != cap {
                self.change(account, |account| account.cap = cap);
                self.excuse(account);
            }
        }
    }

    /// Writes a call down that waits for an admin, unless the same one waits already: whoever tries again and again does
    /// not fill the admin's list. One that may take more is another: a yes to the lesser would not be good for it.
    async fn hold(&mut self, tx: &mut Tx, asked: &Asked<'_>, limit: &Limit) -> Result<CallId> {
        let all = all_of(asked.quote);
        let asked = &Asked { quote: &all, ..*asked };
        let Asked { quote, at, .. } = *asked;
        let payer = &quote.payer;
        let same = |call: &Call| {
            let (a, b) = (&call.payer, payer);
            (&a.org, &a.user, &a.key, &a.chat, &a.turn) == (&b.org, &b.user, &b.key, &b.chat, &b.turn)
                && call.model == quote.model
                && quote.most.fits_in(&call.most)
                && call.state == CallState::Held
        };
        if let Some(known) = self.calls.values().find(|known| same(&known.call)) {
            return Ok(known.call.id.clone());
        }
        let held = tx.list_held(&payer.org, Some(&payer.user), HELD).await?;
        if let Some(call) = held.into_iter().find(same) {
            return Ok(call.id);
        }
        self.add_call(asked, CallState::Held, at + self.post.held, Some(limit));
        Ok(quote.call.clone())
    }

    /// A call that was let through before its limit was known here, and is refused now: it may have been sent, so it is
    /// written down all the same.
    fn note_passed(&mut self, asked: &Asked<'_>, refusal: &NotReserved) {
        let Asked { quote, at, .. } = *asked;
        let Some(first) = &quote.first else { return };
        if let NotReserved::Held { call, .. } = refusal
            && *call == quote.call
        {
            self.attempt(&quote.call, None, first, at);
            self.close_attempts(&quote.call, AttemptState::Unknown);
            return;
        }
        self.add_call(asked, CallState::Unknown, quote.deadline, None);
        self.attempt(&quote.call, None, first, at);
        self.close_attempts(&quote.call, AttemptState::Unknown);
    }

    fn add_call(&mut self, asked: &Asked<'_>, state: CallState, deadline: Time, limit: Option<&Limit>) {
        let Asked { quote, at, nonce, .. } = *asked;
        // Where nothing was granted, whoever settles this reservation is to find none.
        let nonce = if state == CallState::Reserved { nonce } else { !nonce };
        let call = Call {
            id: quote.call.clone(),
            state,
            payer: quote.payer.clone(),
            door: quote.door.clone(),
            model: quote.model.clone(),
            most: not_less(&quote.most),
            at,
            deadline,
            ended_at: (state == CallState::Unknown).then_some(self.post.now),
            limit: limit.map(|limit| limit.id.clone()),
            nonce,
        };
        self.calls.insert(quote.call.clone(), Known { call, fresh: true, ended: false });
    }

    fn granted(&self, applying: &[(&Limit, AccountKey)], at: Time) -> Granted {
        let mut granted = Granted::default();
        for (limit, key) in applying {
            let Some(account) = self.find(key) else { continue };
            if !balance(&self.accounts[account]).has_room(0, limit.amount) {
                granted.warnings.push(limit.id.clone());
            }
            granted.standings.push(self.standing(limit, account, at));
        }
        granted
    }

    fn standing(&self, limit: &Limit, account: usize, at: Time) -> Standing {
        let account = &self.accounts[account];
        Standing {
            limit: limit.id.clone(),
            scope: limit.scope,
            measure: limit.measure,
            period: limit.period,
            policy: limit.policy,
            headroom: Headroom::new(limit.amount, balance(account), account.key.window, at),
        }
    }
}

/// The most that a limit is asked about: of the first of several, where somebody has to agree, that of all of them.
fn asked_about<'q>(quote: &'q Quote, limit: &Limit) -> &'q Amounts {
    match quote.share.as_deref() {
        Some(Share::First { most, .. }) if limit.policy == Policy::Ask => most,
        _ => &quote.most,
    }
}

/// What somebody has to agree to.
fn all_of(quote: &Quote) -> Quote {
    let quote = quote.clone();
    match quote.share.as_deref().cloned() {
        Some(Share::First { of, model, most }) => Quote { call: of, model, most, first: None, share: None, ..quote },
        _ => quote,
    }
}

fn less(most: &Amounts, share: &Amounts) -> Amounts {
    Amounts {
        micros: most.micros - share.micros,
        tokens: most.tokens - share.tokens,
        requests: most.requests - share.requests,
    }
}

/// Nothing is set aside that would make an account larger.
pub(super) fn not_less(most: &Amounts) -> Amounts {
    Amounts { micros: most.micros.max(0), tokens: most.tokens.max(0), requests: most.requests.max(0) }
}

/// The lowest of the amounts that refuse.
pub(super) fn lower(cap: Option<i64>, limit: &Limit) -> Option<i64> {
    match (cap, limit.policy.caps()) {
        (cap, false) => cap,
        (None, true) => Some(limit.amount),
        (Some(cap), true) => Some(cap.min(limit.amount)),
    }
}

fn balance(account: &Account) -> Balance {
    Balance { reserved: account.reserved, spent: account.spent }
}
