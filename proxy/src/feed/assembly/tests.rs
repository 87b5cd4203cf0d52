use super::*;

const OBJECTS: &str = "
apiVersion: countersign.dev/v1
kind: Service
metadata: {namespace: shop, name: orders}
spec:
  workloads: [shop/orders]
  ports: [{name: http, port: 80, protocol: http, app: 8080}]
  endpoints: [{address: 10.0.0.7, ports: {http: 31006}}]
";

fn configuration(number: u64) -> v1::Configuration {
    let objects = policy::parse_documents(OBJECTS).unwrap();
    let objects = objects.iter().map(|object| v1::Object {
        json: object.to_json().to_string(),
        ..v1::Object::default()
    });
    v1::Configuration {
        revision: Some(v1::Revision { epoch: 1, number }),
        engine_version: policy::ENGINE_VERSION,
        id_template: "/ns/{namespace}/sa/{name}".to_owned(),
        objects: objects.collect(),
        decision_key: vec![7; 32],
        ..v1::Configuration::default()
    }
}

fn endpoints(generation: u64, address: &str) -> v1::ServiceEndpoints {
    v1::ServiceEndpoints {
        namespace: "shop".to_owned(),
        service: "orders".to_owned(),
        generation,
        endpoints: vec![v1::Endpoint {
            address: address.to_owned(),
            ports: [("http".to_owned(), 31006)].into(),
            ..v1::Endpoint::default()
        }],
        source: "ca-1".to_owned(),
    }
}

fn assembly() -> Assembly {
    let mut assembly = Assembly::new("shop/orders".parse().unwrap());
    let welcome = v1::Welcome {
        spiffe_id: "spiffe://test.example/ns/shop/sa/orders".to_owned(),
        ..v1::Welcome::default()
    };
    assembly.welcome(&welcome).unwrap();
    assembly
}

fn addresses(state: &MeshState) -> Vec<String> {
    let target = state.targets.values().next().unwrap();
    target
        .endpoints
        .iter()
        .map(|(it, _)| it.host.clone())
        .collect()
}

#[test]
fn nothing_is_permitted_by_a_configuration_that_comes_before_the_welcome() {
    let mut assembly = Assembly::new("shop/orders".parse().unwrap());
    let error = assembly.configuration(&configuration(1));
    assert_eq!(error, Some(AssemblyError::NotWelcomed));
    assert!(assembly.state().policy.is_none());
}

#[test]
fn an_unreadable_configuration_denies_and_keeps_the_listeners() {
    let mut assembly = assembly();
    assembly.configuration(&configuration(1));
    let before = assembly.state();
    let mut unreadable = configuration(2);
    unreadable.id_template = "/nowhere".to_owned();

    assert!(assembly.configuration(&unreadable).is_some());

    let state = assembly.state();
    assert!(state.policy.unwrap().indeterminate().is_some());
    assert_eq!((state.served, before.served.len()), (before.served, 1));
}

#[test]
fn endpoints_never_go_back_within_one_source() {
    let mut assembly = assembly();
    assembly.configuration(&configuration(1));
    assert_eq!(assembly.endpoints(endpoints(2, "10.0.0.8")), Ok(true));
    assert_eq!(assembly.endpoints(endpoints(1, "10.0.0.9")), Ok(false));
    let mut hosts = addresses(&assembly.state());
    hosts.sort();
    assert_eq!(hosts, ["10.0.0.7", "10.0.0.8"]);
}

#[test]
fn an_address_that_is_fixed_and_announced_is_one_endpoint() {
    let mut assembly = assembly();
    assembly.configuration(&configuration(1));
    assembly.endpoints(endpoints(1, "10.0.0.7")).unwrap();
    assert_eq!(addresses(&assembly.state()), ["10.0.0.7"]);
}

#[test]
fn an_application_is_where_the_agent_says_else_where_the_service_says() {
    let mut assembly = assembly();
    assembly.configuration(&configuration(1));
    let name: ServicePort = "shop/orders:http".parse().unwrap();
    assert_eq!(
        &*assembly.state().served[&name].application,
        "127.0.0.1:8080"
    );

    let welcome = v1::Welcome {
        spiffe_id: "spiffe://test.example/ns/shop/sa/orders".to_owned(),
        applications: vec![v1::ApplicationAddress {
            namespace: "shop".to_owned(),
            service: "orders".to_owned(),
            port: "http".to_owned(),
            address: "127.0.0.1:9999".to_owned(),
        }],
        ..v1::Welcome::default()
    };
    assembly.welcome(&welcome).unwrap();
    assert_eq!(
        &*assembly.state().served[&name].application,
        "127.0.0.1:9999"
    );
}

#[test]
fn an_address_that_is_none_denies_and_one_that_is_stands_for_the_service() {
    let mut assembly = assembly();
    let mut message = configuration(1);
    message.objects[0].namespace = "shop".to_owned();
    message.objects[0].name = "orders".to_owned();
    message.objects[0].addresses = vec!["240.0.0.1".to_owned()];
    assert_eq!(assembly.configuration(&message), None);
    let state = assembly.state();
    let service = state.addresses.service_at("240.0.0.1".parse().unwrap());
    assert_eq!(service, Some(&"shop/orders".parse().unwrap()));

    message.objects[0].addresses = vec!["240.0.0.256".to_owned()];
    let error = assembly.configuration(&message);
    assert!(matches!(
        error,
        Some(AssemblyError::Field {
            field: "address",
            ..
        })
    ));
}
