//! Claims on what is read of the instance above, and on what differs from it.

use crypto::random::SeededRandom;
use crypto::signing::SigningKey;
use identity::x509::Authority;
use identity::{SerialNumber, Validity};
use proptest::prelude::*;
use time::macros::datetime;

use super::PhaseAbove::{Active, Draining, Published};
use super::*;
use crate::authority::lifecycle::{Event, Rules, Trigger};
use crate::nesting::wire::RevokedAbove;

const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);
const HOUR: Duration = Duration::from_secs(3600);
const RULES: Rules = Rules {
    settle: HOUR,
    settle_on_schedule: HOUR,
    longest_leaf: HOUR,
    unheard: Duration::ZERO,
    margin: HOUR,
};

fn ours() -> TrustDomain {
    "corp.example".parse().unwrap()
}

fn life() -> Validity {
    Validity::try_new(NOW - HOUR, NOW + 1000 * HOUR).unwrap()
}

fn root(seed: u64) -> RootCertificate {
    let serial = SerialNumber::random(&mut SeededRandom::new(seed));
    let root = Authority::new_root(&ours(), SigningKey::generate(), life(), serial).unwrap();
    RootCertificate::from_der(root.certificate().clone()).unwrap()
}

fn told(root: &RootCertificate, phase: PhaseAbove, replacing: Option<bool>) -> RootAbove {
    RootAbove {
        certificate: BASE64.encode(root.der()),
        phase,
        compromised: replacing.map(|replacing| CompromisedAbove {
            until: NOW + HOUR,
            replacing,
        }),
    }
}

fn bundle(roots: Vec<RootAbove>) -> BundleAbove {
    BundleAbove {
        trust_domain: ours().to_string(),
        sequence: 7,
        roots,
        revoked_authorities: Vec::new(),
    }
}

/// Where this authority is revoked.
fn revoking(key_id: &str) -> BundleAbove {
    BundleAbove {
        revoked_authorities: vec![RevokedAbove {
            key_id: key_id.to_owned(),
            until: NOW + HOUR,
        }],
        ..bundle(vec![told(&root(1), Active, None)])
    }
}

fn follow(roots: Vec<RootAbove>) -> RootsToFollow {
    bundle(roots).check(&ours()).unwrap()
}

/// Where these roots are trusted; the first signs.
fn here(roots: &[&RootCertificate]) -> (Lifecycle, PublishedRoots) {
    let mut lifecycle = Lifecycle::first(life(), NOW);
    for number in 2..=u32::try_from(roots.len()).unwrap() {
        let made = Event::Made {
            generation: Generation::of_number(number).unwrap(),
            validity: life(),
            trigger: Trigger::Operator,
        };
        let (made, _) = lifecycle.step(&made, NOW, &RULES).unwrap();
        let published = made.step(&Event::Tick(Default::default()), NOW, &RULES);
        lifecycle = published.unwrap().0;
    }
    let numbered = (1..).zip(roots).map(|(number, root)| {
        let generation = Generation::of_number(number).unwrap();
        (generation, (*root).clone())
    });
    let roots = PublishedRoots::of_test(&ours(), &lifecycle, numbered.collect());
    (lifecycle, roots)
}

#[track_caller]
fn refused(bundle: BundleAbove) -> BundleAboveError {
    match bundle.check(&ours()) {
        Err(error) => error,
        Ok(_) => panic!("it is followed"),
    }
}

#[test]
fn what_is_no_bundle_of_ours_with_one_root_that_signs_is_refused() {
    let one = root(1);
    let mut other = bundle(vec![told(&one, Active, None)]);
    other.trust_domain = "other.example".to_owned();
    assert!(matches!(
        refused(other),
        BundleAboveError::OtherTrustDomain(_)
    ));
    let none = bundle(vec![told(&one, Published, None)]);
    assert!(matches!(refused(none), BundleAboveError::Active(0)));
    let two = bundle(vec![told(&one, Active, None), told(&root(2), Active, None)]);
    assert!(matches!(refused(two), BundleAboveError::Active(2)));
    let many = bundle(vec![told(&one, Published, None); 17]);
    assert!(matches!(refused(many), BundleAboveError::TooMany(17)));
    let mut broken = told(&one, Active, None);
    broken.certificate = BASE64.encode(b"no certificate");
    let broken = refused(bundle(vec![broken]));
    assert!(matches!(broken, BundleAboveError::Root { index: 0, .. }));
}

#[test]
fn what_names_no_authority_is_no_revocation() {
    let key = Sha256::of(b"key").to_string();
    for text in ["", "7", &key.to_uppercase(), &key[1..]] {
        let error = refused(revoking(text));
        assert!(matches!(error, BundleAboveError::Revoked(0)), "{text}");
    }
    let mut many = revoking(&key);
    many.revoked_authorities = vec![many.revoked_authorities.remove(0); 65];
    assert!(matches!(
        refused(many),
        BundleAboveError::TooManyRevoked(65)
    ));
    let one = root(1);
    let of_root = BundleAbove {
        roots: vec![told(&one, Active, None)],
        ..revoking(&one.key_id().to_string())
    };
    assert!(matches!(refused(of_root), BundleAboveError::RevokedRoot(0)));
}

#[test]
fn an_authority_that_is_revoked_above_signs_nothing_more_here() {
    let key = Sha256::of(b"key");
    let above = revoking(&key.to_string()).check(&ours()).unwrap();
    assert_eq!(above.revoked, [(key, NOW + HOUR)]);
    assert!(above.as_told().revoked.contains(&key.to_string()));
}

#[test]
fn instances_of_another_build_are_understood() {
    let mut older = serde_json::to_value(revoking("00")).unwrap();
    older.as_object_mut().unwrap().remove("revokedAuthorities");
    let older: BundleAbove = serde_json::from_value(older).unwrap();
    assert_eq!(older.revoked_authorities, []);
    let mut newer = serde_json::to_value(revoking("00")).unwrap();
    newer["revokedAuthorities"][0]["more"] = true.into();
    newer["more"] = true.into();
    let newer: BundleAbove = serde_json::from_value(newer).unwrap();
    assert_eq!(newer.revoked_authorities[0].key_id, "00");
}

#[test]
fn a_root_that_is_marked_above_is_marked_here_for_no_longer() {
    let one = root(1);
    let (lifecycle, roots) = here(&[&one]);
    let above = follow(vec![told(&one, Active, Some(false))]);
    let difference = above.compare((&lifecycle, &lifecycle), &roots, NOW);
    assert_eq!(difference.compromised, [(Generation::FIRST, HOUR)]);
    assert!(!difference.is_same && difference.gone.is_empty());
    assert!(above.to_take_up().is_empty());
}

#[test]
fn a_root_that_is_gone_above_goes_here() {
    let (one, two) = (root(1), root(2));
    let (lifecycle, roots) = here(&[&one, &two]);
    let above = follow(vec![told(&two, Active, None)]);
    let difference = above.compare((&lifecycle, &lifecycle), &roots, NOW);
    assert_eq!(difference.gone, [Generation::FIRST]);
    assert!(!difference.is_same);
}

#[test]
fn a_root_that_was_taken_up_after_the_bundle_was_asked_for_is_not_gone() {
    let (one, two) = (root(1), root(2));
    let (before, _) = here(&[&one]);
    let (lifecycle, roots) = here(&[&one, &two]);
    let above = follow(vec![told(&one, Active, None)]);
    let difference = above.compare((&before, &lifecycle), &roots, NOW);
    assert!(difference.gone.is_empty() && !difference.is_same);
}

#[test]
fn a_root_that_is_missing_here_is_not_followed_unless_it_was_burnt() {
    let (one, two) = (root(1), root(2));
    let (lifecycle, roots) = here(&[&one]);
    let above = follow(vec![told(&one, Active, None), told(&two, Published, None)]);
    assert!(!above.compare((&lifecycle, &lifecycle), &roots, NOW).is_same);
    assert_eq!(above.to_take_up(), [one.clone(), two.clone()]);
    let above = follow(vec![
        told(&one, Active, None),
        told(&two, Published, Some(true)),
    ]);
    assert!(above.compare((&lifecycle, &lifecycle), &roots, NOW).is_same);
    assert_eq!(above.to_take_up(), [one]);
}

#[test]
fn a_root_that_drains_above_is_kept_and_not_taken_up() {
    let (one, two) = (root(1), root(2));
    let above = follow(vec![told(&one, Draining, None), told(&two, Active, None)]);
    let ToldAbove {
        to_take_up,
        draining,
        ..
    } = above.as_told();
    assert_eq!((to_take_up, draining), (vec![two.clone()], vec![one]));
    let (lifecycle, roots) = here(&[&two]);
    assert!(above.compare((&lifecycle, &lifecycle), &roots, NOW).is_same);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_answer_of_the_instance_above_panics(
        certificates in prop::collection::vec("[A-Za-z0-9+/=]{0,40}", 0..20),
        phases in any::<[bool; 20]>(),
        revoked in prop::collection::vec("[0-9a-fA-F]{0,64}", 0..70),
    ) {
        let roots = certificates.into_iter().zip(phases).map(|(certificate, active)| RootAbove {
            certificate,
            phase: if active { Active } else { Published },
            compromised: None,
        });
        let revoked = revoked.into_iter().map(|key_id| RevokedAbove { key_id, until: NOW });
        let answer = BundleAbove {
            revoked_authorities: revoked.collect(),
            ..bundle(roots.collect())
        };
        prop_assert!(answer.check(&ours()).is_err());
    }
}
