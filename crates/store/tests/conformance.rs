//! Every method of the store, on both databases, by subject.

#[path = "conformance/agents.rs"]
mod agents;
#[path = "conformance/cast.rs"]
mod cast;
#[path = "conformance/catalog.rs"]
mod catalog;
#[path = "conformance/chats.rs"]
mod chats;
#[path = "conformance/claiming.rs"]
mod claiming;
#[path = "conformance/desk.rs"]
mod desk;
#[path = "conformance/dialogs.rs"]
mod dialogs;
#[path = "conformance/ending.rs"]
mod ending;
#[path = "conformance/enqueueing.rs"]
mod enqueueing;
#[path = "conformance/events.rs"]
mod events;
#[path = "conformance/house.rs"]
mod house;
#[path = "conformance/ledger.rs"]
mod ledger;
#[path = "conformance/outbox.rs"]
mod outbox;
#[path = "conformance/panels.rs"]
mod panels;
#[path = "conformance/people.rs"]
mod people;
#[path = "conformance/reference.rs"]
mod reference;
#[path = "conformance/replies.rs"]
mod replies;
#[path = "conformance/settings.rs"]
mod settings;
#[path = "conformance/signals.rs"]
mod signals;
#[path = "conformance/tokens.rs"]
mod tokens;
#[path = "conformance/transactions.rs"]
mod transactions;
#[path = "conformance/turns.rs"]
mod turns;
