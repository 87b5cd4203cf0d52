use super::*;
use crate::x509::fixture::Mesh;

#[test]
fn a_leaf_is_no_root() {
    let mesh = Mesh::new("td");
    let leaf = mesh.chain(&mesh.spec(&crypto::signing::SigningKey::generate()))[0].to_vec();
    let roots = vec![mesh.root.certificate().to_vec(), leaf];
    let reason = CertificateError::Path;
    assert_eq!(
        Bundle::new(mesh.domain, 1, roots),
        Err(BundleError::Root { index: 1, reason })
    );
}

#[test]
fn a_root_of_another_trust_domain_is_refused() {
    let (mine, theirs) = (Mesh::new("td"), Mesh::new("other"));
    let roots = vec![theirs.root.certificate().to_vec()];
    let (index, found) = (0, theirs.domain);
    assert_eq!(
        Bundle::new(mine.domain, 1, roots),
        Err(BundleError::OtherTrustDomain { index, found })
    );
}

#[test]
fn bytes_that_are_no_certificate_are_refused() {
    let mesh = Mesh::new("td");
    let mut trailing = mesh.root.certificate().to_vec();
    trailing.push(0);
    for (der, reason) in [
        (vec![], CertificateError::Malformed),
        (vec![0x30, 0x00], CertificateError::Malformed),
        (trailing, CertificateError::TrailingData { bytes: 1 }),
    ] {
        assert_eq!(
            Bundle::new(mesh.domain.clone(), 1, vec![der]),
            Err(BundleError::Root { index: 0, reason })
        );
    }
}

#[test]
fn concatenated_roots_are_told_apart() {
    let mesh = Mesh::new("td");
    let mut der = mesh.root.certificate().to_vec();
    let read = |der: &[u8]| Bundle::from_concatenated_der(mesh.domain.clone(), 1, der);
    assert_eq!(read(&der), Ok(mesh.bundle()));
    assert_eq!(read(&[]).unwrap().authorities(), []);
    let offset = der.len();
    der.push(0x30);
    assert_eq!(read(&der), Err(BundleError::Malformed { offset }));
}

#[test]
fn a_root_that_stands_twice_counts_once() {
    let mesh = Mesh::new("td");
    let root = mesh.root.certificate().to_vec();
    let bundle = Bundle::new(mesh.domain.clone(), 1, vec![root.clone(), root]).unwrap();
    assert_eq!(bundle, mesh.bundle());
}

#[test]
fn the_digest_is_that_of_the_content() {
    let (one, two) = (Mesh::new("td"), Mesh::new("td"));
    let root = |mesh: &Mesh| mesh.root.certificate().to_vec();
    let bundle = |sequence, roots| Bundle::new(one.domain.clone(), sequence, roots).unwrap();
    let both = bundle(1, vec![root(&one), root(&two)]);
    assert_ne!(both.digest(), one.bundle().digest());
    assert_eq!(
        both.digest(),
        bundle(2, vec![root(&two), root(&one)]).digest()
    );
}

#[test]
fn a_set_holds_one_bundle_for_each_trust_domain() {
    let (mine, theirs) = (Mesh::new("td"), Mesh::new("other"));
    let empty = Bundle::new(mine.domain.clone(), 2, vec![]).unwrap();
    let set = mine.bundles().with(theirs.bundle()).with(empty.clone());
    assert_eq!(set.len(), 2);
    assert_eq!(set.get(&mine.domain), Some(&empty));
    assert_eq!(set.get(&theirs.domain), Some(&theirs.bundle()));
}
