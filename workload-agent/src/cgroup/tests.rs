use proptest::prelude::*;

use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const POD: &str = "8a4c3f0e-7c1d-4a53-9a0e-0d6f5b1c2e3a";
const POD_IN_SLICE: &str = "8a4c3f0e_7c1d_4a53_9a0e_0d6f5b1c2e3a";

fn v2(path: &str) -> Cgroup {
    Cgroup::parse(&format!("0::{path}\n")).unwrap()
}

#[track_caller]
fn nothing(path: &str) {
    assert_eq!(v2(path), Cgroup::default(), "{path}");
}

#[track_caller]
fn is_container(path: &str, pod: Option<&str>) {
    let expected = Container {
        id: ID.to_owned(),
        pod: pod.map(str::to_owned),
    };
    assert_eq!(v2(path).container, Some(expected), "{path}");
}

#[test]
fn units_that_a_user_may_make_are_not_the_systems() {
    let user = "/user.slice/user-1000.slice/user@1000.service";
    for below in ["", "/app.slice/orders.service", "/orders.service"] {
        let unit = v2(&format!("{user}{below}")).unit;
        assert_eq!(unit.as_deref(), Some("user@1000.service"), "{below}");
    }
}

#[test]
fn containers_that_a_user_or_a_unit_may_make_are_none() {
    for below in [
        "/user.slice/user-1000.slice/user@1000.service/app.slice",
        "/system.slice/ssh.service",
        "/system.slice/containerd.service",
        "/lxc/web",
    ] {
        assert_eq!(v2(&format!("{below}/docker-{ID}.scope")).container, None);
        assert_eq!(v2(&format!("{below}/docker/{ID}")).container, None);
    }
}

#[test]
fn names_that_only_look_like_containers_are_none() {
    nothing("/");
    nothing("/docker");
    nothing("/docker/short");
    nothing(&format!("/docker/{}", ID.to_uppercase()));
    nothing(&format!("/kubepods/burstable/pod7/{ID}"));
    nothing(&format!("/system.slice/docker/{ID}"));
    let shepherd = v2(&format!("/machine.slice/crio-conmon-{ID}.scope"));
    assert_eq!(shepherd.container, None);
}

#[test]
fn a_cgroup_that_is_gone_is_nobodys() {
    assert_eq!(v2("/system.slice/orders.service (deleted)").unit, None);
    assert_eq!(v2(&format!("/docker/{ID} (deleted)")).container, None);
}

#[test]
fn another_namespace_is_refused() {
    let refused = Cgroup::parse("0::/../../system.slice/orders.service\n");
    assert_eq!(refused, Err(CgroupError::OtherNamespace));
}

#[test]
fn what_is_not_the_kernels_form_is_refused() {
    for text in ["x", "0:/", "a::/", "::/", "0::system.slice", "0::/\n\n"] {
        assert_eq!(Cgroup::parse(text), Err(CgroupError::Line), "{text}");
    }
    let long = "0::/\n".repeat(MAX_BYTES);
    assert_eq!(Cgroup::parse(&long), Err(CgroupError::TooLong));
}

#[test]
fn hierarchies_that_disagree_are_not_believed() {
    let text = "1:name=systemd:/system.slice/a.service\n0::/system.slice/b.service\n";
    assert_eq!(Cgroup::parse(text).unwrap().unit, None);
    let other = ID.replace('0', "1");
    let text = format!("4:memory:/docker/{ID}\n3:pids:/docker/{other}\n");
    assert_eq!(Cgroup::parse(&text).unwrap().container, None);
}

#[test]
fn a_unit_is_the_first_name_below_the_slices() {
    for path in [
        "/system.slice/orders.service",
        "/system.slice/orders.service/worker",
        "/shop.slice/shop-web.slice/orders.service",
    ] {
        assert_eq!(v2(path).unit.as_deref(), Some("orders.service"), "{path}");
    }
}

#[test]
fn a_unit_of_version_1_stands_in_systemds_own_hierarchy() {
    let text = "9:name=systemd:/system.slice/orders.service\n4:memory:/elsewhere\n0::/\n";
    let cgroup = Cgroup::parse(text).unwrap();
    assert_eq!(cgroup.unit.as_deref(), Some("orders.service"));
}

#[test]
fn containers_of_systemd_drivers_are_found() {
    is_container(&format!("/system.slice/docker-{ID}.scope"), None);
    is_container(&format!("/machine.slice/libpod-{ID}.scope/container"), None);
    let slice = format!("kubepods-burstable-pod{POD_IN_SLICE}.slice");
    let slices = format!("/kubepods.slice/kubepods-burstable.slice/{slice}");
    is_container(&format!("{slices}/cri-containerd-{ID}.scope"), Some(POD));
    is_container(&format!("{slices}/crio-{ID}.scope"), Some(POD));
    let joined = format!("/system.slice/containerd.service/{slice}:cri-containerd:{ID}");
    is_container(&joined, Some(POD));
    let nested = format!("/kubelet.slice/kubelet-kubepods.slice/kubelet-{slice}");
    is_container(&format!("{nested}/cri-containerd-{ID}.scope"), Some(POD));
}

#[test]
fn containers_of_cgroupfs_drivers_are_found() {
    is_container(&format!("/docker/{ID}"), None);
    is_container(&format!("/docker/{ID}/system.slice/x.service"), None);
    is_container(&format!("/kubepods/pod{POD}/{ID}"), Some(POD));
    is_container(&format!("/kubepods/besteffort/pod{POD}/{ID}"), Some(POD));
}

#[test]
fn a_container_of_version_1_is_found_in_every_hierarchy() {
    let text = format!("4:memory:/docker/{ID}\n3:pids:/docker/{ID}\n1:cpu:/\n0::/\n");
    assert_eq!(Cgroup::parse(&text).unwrap().container.unwrap().id, ID);
}

fn component() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z.:@-]{1,12}",
        Just("system.slice".to_owned()),
        Just("user@1000.service".to_owned()),
        Just(format!("docker-{ID}.scope")),
        Just(ID.to_owned()),
        Just("docker".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_text_makes_the_parser_panic(text in "([0-9]:[a-z=]{0,4}:/[a-z./:-]{0,20}\n){0,4}|.{0,64}") {
        let _ = Cgroup::parse(&text);
    }

    #[test]
    fn nothing_below_a_users_manager_is_believed(
        below in prop::collection::vec(component(), 0..6)
    ) {
        let path = format!("/user.slice/user-7.slice/user@7.service/{}", below.join("/"));
        prop_assume!(!below.iter().any(|part| part == ".."));
        let cgroup = v2(&path);
        prop_assert_eq!(cgroup.unit.as_deref(), Some("user@7.service"));
        prop_assert_eq!(cgroup.container, None);
    }

    #[test]
    fn what_is_made_inside_a_container_changes_nothing(
        below in prop::collection::vec(component(), 0..6)
    ) {
        prop_assume!(!below.iter().any(|part| part == ".."));
        let path = format!("/system.slice/docker-{ID}.scope/{}", below.join("/"));
        prop_assert_eq!(v2(&path).container.unwrap().id, ID);
    }
}
