//! What a panel can cost, and setting that aside.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::HeaderMap;
use salon_core::panel::Why;
use salon_core::{Amounts, Brief, CallId, Lang, Micros};
use salon_engine::wire::carry::{Quirks, Terms, write_ask};
use salon_engine::wire::{Head, Outside as Told, talk};

use super::asked::gate_asked;
use super::{Place, Sitting, Table, Who};
use crate::ledger::{NotReserved, Quote, Reserved, Share};
use crate::relay::{Ask, Begun, Kind, NotBegun, Outside, Refused, Wire, payer};
use crate::run::fare::REAP_AFTER;

/// Where the ledger says that something was set aside for a whole panel.
const DOOR_OF_PANELS: &str = "panel";

impl Sitting {
    /// Sums up what everybody can cost; answers what is asked first.
    pub(super) fn reckon(&mut self, brief: &Brief) -> Result<talk::Ask, Refused> {
        let solvers = self.panel.solvers();
        let price = |at: &usize| self.price(Some(*at), self.solver_asked(*at, brief));
        let alone = solvers.first().map_or(Ok(Amounts::default()), price)?;
        let solving = solvers.iter().map(price).sum::<Result<Amounts, _>>()?;
        let several = self.decided.is_none_or(Why::several);
        let gate = match &self.gate {
            Some(_) => self.price(None, gate_asked(brief))?,
            None => Amounts::default(),
        };
        // A plain question may still turn out to be none.
        let may_grow = self.panel.voices.len() > 1 && self.decided != Some(Why::Never);
        let table = Table {
            answers: solvers.iter().map(|at| (self.panel.voices[*at].name.clone(), self.filler(*at))).collect(),
            ..Table::default()
        };
        let round = if may_grow { self.round_price(&table, brief)? } else { Amounts::default() };
        let rounds = (0..self.panel.rounds).map(|_| round).sum::<Amounts>();
        self.most = if may_grow { gate + solving + rounds } else { alone };
        let least = gate + if several && self.decided.is_some() { solving } else { alone };
        let least = Micros(least.micros);
        if least > self.panel.ceiling {
            let (least, most) = (least.to_string(), self.panel.ceiling.to_string());
            let holes = [("panel", self.panel.name.as_str()), ("least", &least), ("most", &most)];
            let words = Lang::En.say("failure.over_ceiling.told", &holes);
            return Err(Refused::new(Kind::OverBudget, words).with_code("over_ceiling"));
        }
        match (&self.gate, solvers.first()) {
            (Some(_), _) => Ok(gate_asked(brief)),
            (None, Some(solver)) => Ok(self.solver_asked(*solver, brief)),
            (None, None) => Err(Refused::new(Kind::InvalidRequest, "A panel has at least one solver.")),
        }
    }

    /// The most that one round can cost: everybody who reviews, and the synth.
    pub(super) fn round_price(&self, table: &Table, brief: &Brief) -> Result<Amounts, Refused> {
        let mut table = table.clone();
        table.reviews.clear();
        let mut price = Amounts::default();
        for group in self.panel.reviews() {
            let mut said = Vec::new();
            for at in group {
                price = price + self.price(Some(at), self.reviewer_asked(at, brief, &table))?;
                said.push((self.panel.voices[at].name.clone(), self.filler(at)));
            }
            table.reviews.extend(said);
        }
        match self.panel.synth() {
            Some(synth) => Ok(price + self.price(Some(synth), self.synth_asked(synth, brief, &table))?),
            None => Ok(price),
        }
    }

    /// As much text as a voice may write.
    pub(super) fn filler(&self, at: usize) -> String {
        "word".repeat(usize::try_from(self.panel.voices[at].cap).unwrap_or_default())
    }

    /// The most that a call can take.
    pub(super) fn price(&self, who: Who, ask: talk::Ask) -> Result<Amounts, Refused> {
        let place = self.place(who)?;
        let body = self.body(place, ask)?;
        let head = Head::read(Wire::Chat, &body, Told::default())?;
        Ok(self.relay.most(&head, &place.route).amounts())
    }

    pub(super) fn place(&self, who: Who) -> Result<&Place, Refused> {
        let place = who.map_or(self.gate.as_ref(), |at| self.places.get(at));
        place.ok_or_else(|| Refused::new(Kind::Internal, "There is no such seat."))
    }

    pub(super) fn body(&self, place: &Place, mut ask: talk::Ask) -> Result<Bytes, Refused> {
        let terms = Terms {
            model: &place.model,
            shown_model: &place.model,
            stream: true,
            id: self.call.as_str(),
            now: self.relay.salon.clock.now(),
            max_output: None,
            // Those of whoever is asked in the end are heeded there.
            quirks: Quirks::default(),
        };
        let body = write_ask(Wire::Chat, &mut ask, &terms);
        body.map(Bytes::from).map_err(|cannot| Refused::new(Kind::InvalidRequest, cannot.message))
    }

    /// Sets aside what a call takes.
    pub(super) async fn reserve(&self, who: Who, ask: talk::Ask) -> Result<Begun, NotBegun> {
        let body = self.body(self.place(who)?, ask)?;
        let n = self.calls.fetch_add(1, Ordering::Relaxed);
        // Where somebody has to agree, it is to all of them, under the number that the first one has otherwise.
        let (id, share) = match (n, &self.asked) {
            (0, None) => {
                let (of, model) = (self.call.clone(), self.name_as_model());
                (self.call.clone(), Share::First { of, model, most: self.most })
            }
            (n, None) => (CallId::new(format!("{}.v{}", self.call, n + 1)), Share::Of(self.call.clone())),
            (n, Some(numbers)) => (CallId::new(format!("{numbers}.v{}", n + 1)), Share::Of(self.call.clone())),
        };
        let ask = Ask {
            id,
            wire: Wire::Chat,
            caller: self.caller.clone(),
            outside: Outside::default(),
            headers: HeaderMap::new(),
            body,
            turn: self.asking.clone(),
            share: Some(Box::new(share)),
        };
        self.relay.begin(ask).await
    }

    /// Sets aside what an administrator was asked about, if they agreed.
    pub(super) async fn set_aside(&self) -> Result<Reserved, NotReserved> {
        let settings = &self.relay.salon.settings;
        let quote = Quote {
            call: self.call.clone(),
            fresh: false,
            payer: payer(&self.caller, self.asking.as_ref()),
            door: DOOR_OF_PANELS.to_owned(),
            model: self.name_as_model(),
            most: self.most,
            deadline: self.relay.salon.clock.now() + settings.run_deadline + REAP_AFTER,
            first: None,
            share: None,
        };
        self.relay.book.reserve(quote).await
    }

    /// Gives back what nobody took of that.
    pub(super) async fn give_back(&self) {
        let agreed = self.agreed.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(agreed) = agreed {
            agreed.release("nobody has more to say").await;
        }
    }
}
