//! Runs the public vectors of `vectors/*.json` against the evaluator.

use std::collections::BTreeMap;
use std::path::Path;

use countersign_policy as policy;
use identity::{QualifiedName, SpiffeId};
use policy::{
    Decision, MeshNames, PolicySnapshot, Question, Request, RequestPath, Revision, Target, Verdict,
};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    #[serde(rename = "about")]
    _about: String,
    trust_domain: String,
    #[serde(default)]
    id_template: Option<String>,
    #[serde(default)]
    engine_version: Option<u32>,
    #[serde(default)]
    custom_identities: BTreeMap<QualifiedName, SpiffeId>,
    objects: Vec<Value>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    from: String,
    to: String,
    method: Option<String>,
    target: Option<String>,
    #[serde(default)]
    headers: Vec<(String, String)>,
    verdict: String,
    rule: Option<String>,
    reason: Option<String>,
}

impl File {
    fn mesh(&self) -> MeshNames {
        let template = self
            .id_template
            .as_deref()
            .unwrap_or("/ns/{namespace}/sa/{name}");
        MeshNames::new(
            self.trust_domain.parse().unwrap(),
            template.parse().unwrap(),
        )
    }

    fn snapshot(&self) -> PolicySnapshot {
        let texts: Vec<String> = self.objects.iter().map(Value::to_string).collect();
        let custom: Vec<_> = self.custom_identities.clone().into_iter().collect();
        PolicySnapshot::compile_json(
            Revision {
                epoch: 1,
                number: 1,
            },
            &[7; 32],
            self.engine_version.unwrap_or(1),
            &self.mesh(),
            texts.iter().map(String::as_str),
            &custom,
        )
    }
}

impl Case {
    /// Judges, and checks that the explanation says the same.
    fn judge(&self, mesh: &MeshNames, snapshot: &PolicySnapshot) -> Decision {
        let source = match self.from.parse::<SpiffeId>() {
            Ok(id) => id,
            Err(_) => mesh.id(&self.from.parse().unwrap()),
        };
        let (service, port) = self.to.split_once(':').unwrap();
        let (service, port) = (service.parse().unwrap(), port.parse().unwrap());
        let method = self.method.as_deref().unwrap_or_default();
        let path = self
            .target
            .as_deref()
            .map(|target| RequestPath::parse(method, target));
        let headers = &self.headers;
        let request = match &path {
            Some(path) => Request::Http {
                method,
                path,
                headers,
            },
            None => Request::Connection,
        };
        let target = Target {
            service: &service,
            port: &port,
        };
        let question = Question {
            source: &source,
            target,
            request,
        };
        let decision = snapshot.judge(&question);
        let explanation = snapshot.explain(&question);
        assert_eq!(
            explanation.verdict,
            decision.verdict.as_str(),
            "{}",
            self.name
        );
        assert_eq!(
            explanation.decision_id,
            decision.id.to_string(),
            "{}",
            self.name
        );
        decision
    }

    fn failure(&self, decision: &Decision) -> Option<String> {
        let rule = decision.verdict.rule().map(|rule| rule.to_string());
        let reason = match &decision.verdict {
            Verdict::Deny(reason) => Some(reason.code().to_owned()),
            Verdict::Allow(_) => None,
        };
        let given = (decision.verdict.as_str(), &rule, &reason);
        let wanted = (self.verdict.as_str(), &self.rule, &self.reason);
        (given != wanted).then(|| format!("{}: wanted {wanted:?}, got {given:?}", self.name))
    }
}

#[test]
fn every_conformance_vector_holds() {
    let (mut count, mut failures) = (0, Vec::new());
    for file in files() {
        let text = std::fs::read_to_string(&file).unwrap();
        let vectors: File = serde_json::from_str(&text).unwrap();
        let (mesh, snapshot) = (vectors.mesh(), vectors.snapshot());
        for case in &vectors.cases {
            count += 1;
            let failure = case.failure(&case.judge(&mesh, &snapshot));
            failures.extend(failure.map(|failure| format!("{}: {failure}", file.display())));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {count} failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert!(count >= 150, "only {count} vectors were found");
}

fn files() -> Vec<std::path::PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let entries = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .collect();
    files.sort();
    files
}
