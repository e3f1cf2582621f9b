//! What a turn's calls took, until the transaction that ends the turn writes it down: so a reply is never final without
//! its charge, and a turn that is answered once more, because its process died, is charged for the answer that stays.
//!
//! ```text
//! settle ─► Tab ─► close ─► Charges ─► write, in the transaction that ends the turn ─► written
//!            │                 └► dropped: the turn was not ended by us, so nobody knows what becomes of the calls
//!            └► closed already: in line, as for any other call
//! ```

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use salon_core::Time;
use salon_store::{Error, Tx};

use super::post::{Post, Step, post};
use super::{NotReserved, Reserved, Spent};

/// The tab of one attempt at a turn. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tab(Arc<Mutex<Slips>>);

#[derive(Debug)]
enum Slips {
    Open(Vec<Slip>),
    Closed,
}

impl Default for Slips {
    fn default() -> Slips {
        Slips::Open(Vec::new())
    }
}

/// A call that has ended, and what it took.
#[derive(Debug)]
pub(super) struct Slip {
    pub reserved: Reserved,
    pub spent: Spent,
    pub at: Time,
}

impl Tab {
    /// Puts a slip on the tab. It comes back if the tab is closed.
    pub(super) fn put(&self, slip: Slip) -> Result<(), Slip> {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Slips::Open(slips) => {
                slips.push(slip);
                Ok(())
            }
            Slips::Closed => Err(slip),
        }
    }

    /// Takes what is on the tab, to be charged together. What ends later is charged by itself.
    pub async fn close(&self) -> Charges {
        let slips = mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), Slips::Closed);
        let slips = if let Slips::Open(slips) = slips { slips } else { Vec::new() };
        let (mut calls, mut steps) = (Vec::new(), Vec::new());
        for Slip { mut reserved, spent, at } in slips {
            match reserved.durable().await {
                Ok(_) => {
                    let (call, nonce) = (reserved.call.clone(), Some(reserved.nonce));
                    steps.push(Step::Settle { call, spent: Box::new(spent), at, nonce });
                    calls.push(reserved);
                }
                // It will be in the database once its reservation is.
                Err(NotReserved::Unavailable(_)) => reserved.settle(spent).await,
                // It was not to be made.
                Err(_) => {}
            }
        }
        let shared = calls.first().and_then(|reserved| reserved.book.as_ref()).map(|book| &book.shared);
        let post = shared.map(|shared| Arc::new(shared.post(steps)));
        Charges { calls, post }
    }
}

/// Charges that a transaction is to write.
pub struct Charges {
    calls: Vec<Reserved>,
    post: Option<Arc<Post>>,
}

/// The same, for the transaction itself, which may be run again.
#[derive(Clone)]
pub struct Posting(Option<Arc<Post>>);

impl Charges {
    pub fn posting(&self) -> Posting {
        Posting(self.post.clone())
    }

    /// The transaction was committed.
    pub fn written(self) {
        self.calls.into_iter().for_each(|reserved| drop(reserved.keep()));
    }
}

impl Posting {
    /// Writes the charges. The calls, and the accounts that they count in, are locked from here to the commit.
    pub async fn write(&self, tx: &mut Tx) -> Result<(), Error> {
        if let Some(request) = &self.0 {
            post(tx, request).await?;
        }
        Ok(())
    }
}
