//! Which systemd unit and which container a process is in, by `/proc/<pid>/cgroup` (cgroups(7)).
//!
//! Invariant: only the part of a path that the host's root alone makes is believed: slices, and the
//! first name after them. Below that a unit, a container or a user may make cgroups of any name;
//! what is found there proves nothing, and neither does a user's own service manager
//! (`user@1000.service`). A path outside the agent's own cgroup namespace is refused.

/// Longer texts are refused; the kernel's have a line for each hierarchy.
const MAX_BYTES: usize = 64 * 1024;
const CONTAINER_ID: usize = 64;
/// Prefixes of scopes that container engines make under systemd.
const ENGINES: [&str; 6] = [
    "docker",
    "cri-containerd",
    "crio",
    "libpod",
    "containerd",
    "nerdctl",
];

/// What a process is part of.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Cgroup {
    /// Of the system's service manager, such as `orders.service`.
    pub unit: Option<String>,
    pub container: Option<Container>,
}

/// A container, and its pod where Kubernetes made it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Container {
    /// 64 lower-case hexadecimal digits.
    pub id: String,
    /// The pod's UID.
    pub pod: Option<String>,
}

/// Why a text says nothing about a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CgroupError {
    #[error("the text is longer than 65536 bytes")]
    TooLong,
    #[error("a line is not `hierarchy:controllers:/path`")]
    Line,
    #[error(
        "the process is outside the agent's cgroup namespace; run the agent in the host's \
         (Kubernetes: hostPID and a host's /sys/fs/cgroup; containers: --cgroupns=host)"
    )]
    OtherNamespace,
}

impl Cgroup {
    /// Reads the text of `/proc/<pid>/cgroup`. On version 1 there are several paths; where two of
    /// them say different things, neither is believed.
    ///
    /// # Errors
    /// The text is not of the kernel's form, or of another namespace.
    pub fn parse(text: &str) -> Result<Self, CgroupError> {
        if text.len() > MAX_BYTES {
            return Err(CgroupError::TooLong);
        }
        let mut units = Agreed::default();
        let mut containers = Agreed::default();
        for line in text.lines() {
            let (controllers, path) = split(line)?;
            let components: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
            if components.contains(&"..") {
                return Err(CgroupError::OtherNamespace);
            }
            if is_systemds(controllers) {
                units.add(unit(&components));
            }
            containers.add(container(&components));
        }
        Ok(Self {
            unit: units.value(),
            container: containers.value(),
        })
    }
}

/// One value from several places, if they agree.
#[derive(Default)]
enum Agreed<T> {
    #[default]
    None,
    One(T),
    Several,
}

impl<T: PartialEq> Agreed<T> {
    fn add(&mut self, value: Option<T>) {
        let Some(value) = value else {
            return;
        };
        *self = match std::mem::take(self) {
            Self::None => Self::One(value),
            Self::One(known) if known == value => Self::One(known),
            _ => Self::Several,
        };
    }

    fn value(self) -> Option<T> {
        match self {
            Self::One(value) => Some(value),
            Self::None | Self::Several => None,
        }
    }
}

/// `hierarchy-ID:controller-list:cgroup-path`; the path may hold colons.
fn split(line: &str) -> Result<(&str, &str), CgroupError> {
    let (hierarchy, rest) = line.split_once(':').ok_or(CgroupError::Line)?;
    let (controllers, path) = rest.split_once(':').ok_or(CgroupError::Line)?;
    let number = !hierarchy.is_empty() && hierarchy.bytes().all(|byte| byte.is_ascii_digit());
    if !number || !path.starts_with('/') {
        return Err(CgroupError::Line);
    }
    Ok((controllers, path))
}

/// The hierarchies in which systemd keeps its units: its own of version 1, and that of version 2.
fn is_systemds(controllers: &str) -> bool {
    controllers.is_empty() || controllers == "name=systemd"
}

fn unit(components: &[&str]) -> Option<String> {
    let (_, first) = below_slices(components)?;
    let is_unit = first.ends_with(".service") || first.ends_with(".scope");
    is_unit.then(|| first.to_owned())
}

fn container(components: &[&str]) -> Option<Container> {
    let (slices, first) = below_slices(components)?;
    let below = &components[slices..];
    if let Some(scope) = first.strip_suffix(".scope") {
        let (engine, id) = scope.rsplit_once('-')?;
        let id = ENGINES.contains(&engine).then_some(id)?;
        let slice = slices.checked_sub(1).map(|last| components[last]);
        return container_of(id, slice.and_then(pod_of_slice));
    }
    match below {
        ["docker", id, ..] if slices == 0 => container_of(id, None),
        ["kubepods", "burstable" | "besteffort", pod, id, ..] | ["kubepods", pod, id, ..]
            if slices == 0 =>
        {
            let pod = pod.strip_prefix("pod").and_then(pod_uid)?;
            container_of(id, Some(pod))
        }
        ["containerd.service", joined, ..] | [joined, ..] => {
            let (slice, rest) = joined.split_once(':')?;
            let id = rest.strip_prefix("cri-containerd:")?;
            container_of(id, Some(pod_of_slice(slice)?))
        }
        [] => None,
    }
}

/// How many slices a path begins with, and the name after them.
fn below_slices<'a>(components: &[&'a str]) -> Option<(usize, &'a str)> {
    let place = components
        .iter()
        .position(|part| !part.ends_with(".slice"))?;
    Some((place, components[place]))
}

fn container_of(id: &str, pod: Option<String>) -> Option<Container> {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let whole = id.len() == CONTAINER_ID && id.bytes().all(hex);
    whole.then(|| Container {
        id: id.to_owned(),
        pod,
    })
}

/// `kubepods-burstable-pod<uid>.slice`, in which systemd's escaping makes dashes underscores.
fn pod_of_slice(slice: &str) -> Option<String> {
    let name = slice.strip_suffix(".slice")?;
    let (before, uid) = name.rsplit_once("-pod")?;
    let of_kubernetes = before.split('-').any(|part| part == "kubepods");
    of_kubernetes.then(|| pod_uid(&uid.replace('_', "-")))?
}

/// A UUID; the hash of a static pod's manifest, which has no dashes.
fn pod_uid(uid: &str) -> Option<String> {
    let digits = uid.bytes().filter(u8::is_ascii_hexdigit).count();
    let plain = uid
        .bytes()
        .all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    (digits == 32 && plain).then(|| uid.to_owned())
}

#[cfg(test)]
mod tests;
