//! The real program, and everything that may happen to it: `kill -9`, SIGSTOP, lost answers, a full disk.
//!
//! The program runs as a child process on a scratch folder. The mock Telegram runs in the test, so its ledger outlives
//! every kill. Whatever was done to the program, the same judge ([`judge`]) asks for the same three things in the end:
//! nothing is lost (I1), nothing is said twice (I2), everything is in order (I3).
//!
//! - [`program`] is the child process; [`stage`] is what stands around it; [`crowd`] is the people who ask.
//! - [`runs`] kills at random times, [`sabotage`] proves that this finds what it should, [`pairs`] plays with two
//!   processes on one database, [`points`] kills at every named point and around every commit, [`calls`] does the same to
//!   stateless calls and lays the upstream's ledger beside ours, [`drains`] asks politely, [`storms`] cuts the database's
//!   connections, [`disks`] takes the room away, [`doors`] are the starts that must be refused,
//!   [`secrets`] looks for what must be found nowhere.
//!
//! `SALON_SEED` repeats a run, `SALON_LONG=1` makes the runs as long as a release wants them.

mod calls;
mod crowd;
mod disks;
mod doors;
mod drains;
mod judge;
mod pairs;
mod points;
mod program;
#[path = "../relay/raw.rs"]
mod raw;
mod runs;
mod sabotage;
mod secrets;
mod stage;
mod storms;
