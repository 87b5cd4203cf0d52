//! Whatever stands below a user's own manager, or inside a container, proves nothing else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use workload_agent::cgroup::Cgroup;

fuzz_target!(|text: &str| {
    let _ = Cgroup::parse(text);
    let below = text.replace(['\n', '\r'], "");
    let path = format!("0::/user.slice/user-7.slice/user@7.service/{below}\n");
    let Ok(cgroup) = Cgroup::parse(&path) else { return };
    assert_eq!(cgroup.unit.as_deref(), Some("user@7.service"));
    assert_eq!(cgroup.container, None);
});
