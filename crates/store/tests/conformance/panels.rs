use salon_core::{OrgId, Owner, Time, UserId};
use salon_store::testing::Scratch;
use salon_store::{PanelRow, on_both_databases};

use crate::cast::*;

on_both_databases! {
    a_panel_is_its_owners_and_one_of_its_name
    a_mask_is_off_until_somebody_sets_it
}

fn row(id: &str, owner: &Owner, name: &str, body: &str) -> PanelRow {
    let (id, owner, name, body) = (id.to_owned(), owner.clone(), name.to_owned(), body.to_owned());
    PanelRow { id, owner, name, body, updated_at: Time(7) }
}

async fn a_panel_is_its_owners_and_one_of_its_name(Scratch { store, .. }: Scratch) {
    let (org, alice) = (Owner::Org(OrgId::new("default")), Owner::User(UserId::new("alice")));
    for row in [row("1", &org, "law", "{}"), row("2", &alice, "law", "{1}"), row("3", &alice, "art", "{}")] {
        transact!(store, row, |tx, row| tx.put_panel(row).await).expect("put");
    }
    let again = row("4", &alice, "law", "{2}");
    transact!(store, again, |tx, row| tx.put_panel(row).await).expect("put");
    let mut tx = read(&store).await;
    let found = tx.find_panel(&alice, "law").await.expect("find").expect("a panel");
    assert_eq!((found.id.as_str(), found.body.as_str(), found.updated_at), ("2", "{2}", Time(7)));
    assert_eq!(tx.find_panel(&org, "law").await.expect("find").map(|row| row.body).as_deref(), Some("{}"));
    assert_eq!(tx.find_panel(&org, "art").await.expect("find"), None);
    let names: Vec<_> = tx.list_panels(&alice).await.expect("list").into_iter().map(|row| row.name).collect();
    assert_eq!(names, ["art", "law"]);
    drop(tx);
    for expected in [true, false] {
        let removed = transact!(store, alice.clone(), |tx, alice| tx.remove_panel(alice, "law").await);
        assert_eq!(removed.expect("remove"), expected);
    }
    assert!(read(&store).await.find_panel(&org, "law").await.expect("find").is_some());
}

async fn a_mask_is_off_until_somebody_sets_it(Scratch { store, .. }: Scratch) {
    let org = OrgId::new("default");
    assert_eq!(read(&store).await.find_mask(&org).await.expect("find").as_deref(), Some("off"));
    assert!(transact!(store, org.clone(), |tx, org| tx.set_mask(org, "all").await).expect("set"));
    assert_eq!(read(&store).await.find_mask(&org).await.expect("find").as_deref(), Some("all"));
    let nobody = OrgId::new("nobody");
    assert!(!transact!(store, nobody.clone(), |tx, org| tx.set_mask(org, "all").await).expect("set"));
    assert_eq!(read(&store).await.find_mask(&nobody).await.expect("find"), None);
}
