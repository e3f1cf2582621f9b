//! The ledger: nobody spends beyond a limit, and nobody is charged twice.

#[path = "ledger/cast.rs"]
mod cast;
#[path = "ledger/crowds.rs"]
mod crowds;
#[path = "ledger/ends.rs"]
mod ends;
#[path = "ledger/journal.rs"]
mod journal;
#[path = "ledger/limits.rs"]
mod limits;
#[path = "ledger/past.rs"]
mod past;
#[path = "ledger/reference.rs"]
mod reference;
#[path = "ledger/tab.rs"]
mod tab;
#[path = "ledger/views.rs"]
mod views;
