//! A path has one form: reading the form again gives the form, and nothing that two programs
//! could read differently is in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::path::CanonicalPath;

fuzz_target!(|bytes: &[u8]| {
    let Ok(path) = CanonicalPath::parse(bytes) else { return };
    let form = path.as_str();
    assert_eq!(CanonicalPath::parse(form).expect("the form is legal").as_str(), form);
    for forbidden in ["//", "/./", "/../", "\\", ";", "#", "?", "%2F", "%5C", "%00", "%2E"] {
        assert!(!form.contains(forbidden), "{forbidden} in {form}");
    }
});
