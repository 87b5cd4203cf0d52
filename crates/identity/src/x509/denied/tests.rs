use crypto::signing::SigningKey;
use proptest::prelude::*;

use super::*;
use crate::x509::UnverifiedChain;
use crate::x509::fixture::{Mesh, NOW, serial};

fn svid(mesh: &Mesh) -> VerifiedSvid {
    let chain = mesh.chain(&mesh.spec(&SigningKey::generate()));
    let chain = UnverifiedChain::from_der(chain).unwrap();
    chain.verify(&mesh.bundles(), NOW).unwrap()
}

#[track_caller]
fn refused_by(svid: &VerifiedSvid, entry: &Denied) {
    let list = DenyList::new([Denied::Serial(serial()), entry.clone()]).unwrap();
    assert_eq!(list.refuses(svid).as_ref(), Some(entry));
}

#[test]
fn an_svid_is_refused_by_its_identity_its_serial_and_each_authority_above_it() {
    let mesh = Mesh::new("td");
    let svid = svid(&mesh);
    refused_by(&svid, &Denied::Identity(svid.spiffe_id().clone()));
    refused_by(&svid, &Denied::Serial(svid.serial()));
    assert_eq!(svid.authorities().len(), 2);
    for key in svid.authorities() {
        refused_by(&svid, &Denied::Authority(*key));
    }
    let root = mesh.bundle().authorities()[0].key_id();
    assert_eq!(svid.authorities()[1], root);
}

#[test]
fn an_svid_that_no_entry_names_is_not_refused() {
    let svid = svid(&Mesh::new("td"));
    let list = DenyList::parse(
        &["spiffe://td/ns/shop/sa/other"],
        &[serial().as_bytes()],
        &[&[7; 32]],
    );
    let list = list.unwrap();
    assert_eq!((list.len(), list.refuses(&svid)), (3, None));
    assert_eq!(DenyList::default().refuses(&svid), None);
}

#[test]
fn entries_that_are_none_are_refused() {
    let none: [&[u8]; 0] = [];
    let check = |list: Result<DenyList, _>, expected: DenyListError| {
        assert_eq!(list.unwrap_err(), expected);
    };
    let text = "https://td/a";
    let reason = text.parse::<SpiffeId>().unwrap_err();
    check(
        DenyList::parse(&[text], &none, &none),
        DenyListError::Identity(reason),
    );
    let zero: &[u8] = &[0];
    check(
        DenyList::parse(&[""; 0], &[zero], &none),
        DenyListError::Serial(SerialNumberError::Zero),
    );
    check(
        DenyList::parse(&[""; 0], &none, &[zero]),
        DenyListError::Authority,
    );
}

#[test]
fn a_list_that_is_too_long_is_refused() {
    let serials: Vec<[u8; 4]> = (1..=50_001_u32).map(u32::to_be_bytes).collect();
    let none: [[u8; 4]; 0] = [];
    let longest = DenyList::parse(&[""; 0], &serials[1..], &none).unwrap();
    assert_eq!(longest.len(), MOST_DENIED);
    let refused = DenyList::parse(&[""; 0], &serials, &none);
    assert_eq!(refused.unwrap_err(), DenyListError::TooLong);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_read_of_a_wire_is_what_was_written(
        serials in prop::collection::hash_set(1u32.., 0..20),
        keys in prop::collection::hash_set(any::<[u8; 32]>(), 0..20),
        others in prop::collection::vec(1u32.., 0..4),
    ) {
        let serials: Vec<_> = serials.into_iter().map(u32::to_be_bytes).map(Vec::from).collect();
        let keys: Vec<_> = keys.into_iter().map(Vec::from).collect();
        let list = DenyList::parse(&[""; 0], &serials, &keys).unwrap();
        prop_assert_eq!(list.len(), serials.len() + keys.len());
        let again = DenyList::new(list.iter().cloned()).unwrap();
        prop_assert_eq!(&again, &list);
        let grown = others.iter().map(|it| {
            Denied::Serial(SerialNumber::from_bytes(&it.to_be_bytes()).unwrap())
        });
        let grown = DenyList::new(list.iter().cloned().chain(grown)).unwrap();
        prop_assert_eq!(grown.adds_to(&list), grown.len() > list.len());
        prop_assert!(!list.adds_to(&grown));
    }

    #[test]
    fn nothing_that_comes_over_a_wire_panics(
        identities in prop::collection::vec("[ -~]{0,30}", 0..4),
        bytes in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
    ) {
        let _ = DenyList::parse(&identities, &bytes, &bytes);
    }
}
