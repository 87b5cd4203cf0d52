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

const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);
const HOUR: Duration = Duration::from_secs(3600);
const RULES: Rules = Rules {
    settle: HOUR,
    settle_on_schedule: HOUR,
    longest_leaf: HOUR,
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
fn a_root_that_is_marked_above_is_marked_here_for_no_longer() {
    let one = root(1);
    let (lifecycle, roots) = here(&[&one]);
    let above = follow(vec![told(&one, Active, Some(false))]);
    let difference = above.compare(&lifecycle, &roots, NOW);
    assert_eq!(difference.compromised, [(Generation::FIRST, HOUR)]);
    assert!(!difference.is_same && difference.gone.is_empty());
    assert!(above.to_take_up().is_empty());
}

#[test]
fn a_root_that_is_gone_above_goes_here() {
    let (one, two) = (root(1), root(2));
    let (lifecycle, roots) = here(&[&one, &two]);
    let above = follow(vec![told(&two, Active, None)]);
    let difference = above.compare(&lifecycle, &roots, NOW);
    assert_eq!(difference.gone, [Generation::FIRST]);
    assert!(!difference.is_same);
}

#[test]
fn a_root_that_is_missing_here_is_not_followed_unless_it_was_burnt() {
    let (one, two) = (root(1), root(2));
    let (lifecycle, roots) = here(&[&one]);
    let above = follow(vec![told(&one, Active, None), told(&two, Published, None)]);
    assert!(!above.compare(&lifecycle, &roots, NOW).is_same);
    assert_eq!(above.to_take_up(), [one.clone(), two.clone()]);
    let above = follow(vec![
        told(&one, Active, None),
        told(&two, Published, Some(true)),
    ]);
    assert!(above.compare(&lifecycle, &roots, NOW).is_same);
    assert_eq!(above.to_take_up(), [one]);
}

#[test]
fn a_root_that_drains_above_is_kept_and_not_taken_up() {
    let (one, two) = (root(1), root(2));
    let above = follow(vec![told(&one, Draining, None), told(&two, Active, None)]);
    let ToldAbove {
        to_take_up,
        draining,
    } = above.as_told();
    assert_eq!((to_take_up, draining), (vec![two.clone()], vec![one]));
    let (lifecycle, roots) = here(&[&two]);
    assert!(above.compare(&lifecycle, &roots, NOW).is_same);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_answer_of_the_instance_above_panics(
        certificates in prop::collection::vec("[A-Za-z0-9+/=]{0,40}", 0..20),
        phases in any::<[bool; 20]>(),
    ) {
        let roots = certificates.into_iter().zip(phases).map(|(certificate, active)| RootAbove {
            certificate,
            phase: if active { Active } else { Published },
            compromised: None,
        });
        prop_assert!(bundle(roots.collect()).check(&ours()).is_err());
    }
}
