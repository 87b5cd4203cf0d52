//! Header fields that tell of a request's way here: what proxies set and applications believe. A
//! Gateway takes nobody's word for them.

/// Everything that begins so.
const PREFIX: &str = "x-forwarded-";

const NAMES: [&str; 7] = [
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "x-original-forwarded-for",
    "x-original-url",
    "x-rewrite-url",
];

/// Whether a field of this name, in small letters, is dropped where a request enters the mesh;
/// `_` is read as `-`, as applications do.
pub fn is_about_the_way(name: &str) -> bool {
    let is_same = |wanted: &str, got: &str| {
        let same = |(wanted, got): (u8, u8)| wanted == got || (wanted == b'-' && got == b'_');
        wanted.len() == got.len() && wanted.bytes().zip(got.bytes()).all(same)
    };
    let begins = name.get(..PREFIX.len());
    begins.is_some_and(|begin| is_same(PREFIX, begin))
        || NAMES.into_iter().any(|wanted| is_same(wanted, name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn other_names_are_not_about_the_way() {
        for name in ["x-forwarded", "x-forwarded_", "real-ip", "x-real-ip-2", ""] {
            let is = is_about_the_way(name);
            assert_eq!(is, name == "x-forwarded_", "{name}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn no_spelling_of_a_name_is_missed(which in 0..NAMES.len() + 2, underscores: [bool; 24]) {
            let names = NAMES.into_iter().chain(["x-forwarded-for", "x-forwarded-host"]);
            let name = names.clone().nth(which).unwrap();
            let spelled: String = name.chars().zip(underscores)
                .map(|(it, underscore)| if it == '-' && underscore { '_' } else { it })
                .collect();
            prop_assert!(is_about_the_way(&spelled));
        }
    }
}
