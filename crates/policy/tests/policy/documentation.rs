//! Runs the examples of `docs/policy.md`.

use countersign_policy as policy;
use policy::{
    MeshNames, ObjectSet, PolicySnapshot, Question, Request, RequestPath, Revision, Target, Verdict,
};

/// Info string and body of each fenced block.
fn blocks() -> Vec<(String, String)> {
    let text = page();
    let fenced = text.split("```").skip(1).step_by(2);
    let parts = fenced.map(|block| block.split_once('\n').unwrap());
    parts
        .map(|(info, body)| (info.to_owned(), body.to_owned()))
        .collect()
}

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/policy.md");
    std::fs::read_to_string(path).unwrap()
}

fn example() -> (MeshNames, ObjectSet) {
    let block = blocks()
        .into_iter()
        .find(|(info, _)| info == "yaml")
        .unwrap();
    let objects = policy::parse_documents(&block.1)
        .unwrap()
        .into_iter()
        .collect();
    let template = "/ns/{namespace}/sa/{name}".parse().unwrap();
    (
        MeshNames::new("corp.example".parse().unwrap(), template),
        objects,
    )
}

#[test]
fn documented_refusals_are_what_the_parser_says() {
    let refused: Vec<_> = blocks()
        .into_iter()
        .filter(|(info, _)| info != "yaml")
        .collect();
    for (info, body) in &refused {
        let error = policy::parse_documents(body).unwrap_err();
        assert_eq!(
            *info,
            format!("yaml refused={} at={}", error.code, error.pointer)
        );
    }
    assert_eq!(refused.len(), 2);
}

#[test]
fn documented_answers_are_what_the_evaluator_says() {
    let (mesh, objects) = example();
    assert_eq!(objects.validate(&mesh), Ok(()));
    let revision = Revision {
        epoch: 1,
        number: 1,
    };
    let snapshot = PolicySnapshot::compile(revision, &[1; 32], &mesh, &objects, &[]);
    let page = page();
    let rows: Vec<Vec<&str>> = page
        .lines()
        .skip_while(|line| *line != "| caller | target | request | answer |")
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert_eq!(rows.len(), 8);
    for row in rows {
        let [caller, target, request, answer] = row[..] else {
            panic!("{row:?}")
        };
        assert_eq!(
            judge(&mesh, &snapshot, [caller, target, request]),
            answer,
            "{row:?}"
        );
    }
}

fn judge(mesh: &MeshNames, snapshot: &PolicySnapshot, row: [&str; 3]) -> String {
    let [caller, target, request] = row;
    let source = mesh.id(&caller.parse().unwrap());
    let (service, port) = target.split_once(':').unwrap();
    let (service, port) = (service.parse().unwrap(), port.parse().unwrap());
    let (method, path) = request.split_once(' ').unwrap();
    let path = RequestPath::parse(method, path);
    let request = Request::Http {
        method,
        path: &path,
        headers: &(),
    };
    let target = Target {
        service: &service,
        port: &port,
    };
    match snapshot
        .judge(&Question {
            source: &source,
            target,
            request,
        })
        .verdict
    {
        Verdict::Allow(rule) => format!("allow {}", rule.id),
        Verdict::Deny(reason) => format!("deny {}", reason.code()),
    }
}

/// What `deploy/examples` applies, all of it together.
#[test]
fn the_examples_for_operators_are_valid_together() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/examples");
    let files = std::fs::read_dir(folder).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    let objects: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|it| it == "yaml"))
        .flat_map(|path| policy::parse_documents(&std::fs::read_to_string(path).unwrap()).unwrap())
        .collect();
    let kinds: std::collections::BTreeSet<_> =
        objects.iter().map(|it| it.key().kind.as_str()).collect();
    for kind in ["Service", "Policy", "Route", "Gateway", "External"] {
        assert!(kinds.contains(kind), "{kind}");
    }
    let set: ObjectSet = objects.into_iter().collect();
    assert_eq!(set.validate(&example().0), Ok(()));
}
