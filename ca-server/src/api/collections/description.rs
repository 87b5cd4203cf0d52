//! The operations of a collection as the OpenAPI document describes them. `utoipa` derives such
//! descriptions for functions of one type only; these hold for a kind.

use policy::Kind;
use utoipa::openapi::content::Content;
use utoipa::openapi::header::Header;
use utoipa::openapi::path::{
    HttpMethod, OperationBuilder, Parameter, ParameterBuilder, ParameterIn,
};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{Ref, RefOr, Required, Response, ResponseBuilder, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use super::super::documented::Described;
use super::super::objects::{ListQuery, ObjectList, WriteQuery};
use super::Collected;

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";

pub(super) fn list(kind: Kind) -> Described {
    let plural = kind.plural();
    let operation = OperationBuilder::new()
        .summary(Some(format!("Lists {plural}.")))
        .operation_id(Some(format!("list_{plural}")))
        .parameters(Some(ListQuery::into_params(|| None)))
        .response("200", ok::<ObjectList>().build());
    Described {
        method: HttpMethod::Get,
        path: format!("/v1/{plural}"),
        operation: operation.build(),
        schemas: schemas::<ObjectList>(),
    }
}

pub(super) fn get<D: Collected>() -> Described {
    let one = singular(D::KIND);
    let operation = OperationBuilder::new()
        .summary(Some(format!("Reads one {one}.")))
        .operation_id(Some(format!("get_{one}")))
        .parameters(Some(names(D::KIND)))
        .response("200", tagged::<D>())
        .response("304", Response::default());
    described::<D>(HttpMethod::Get, operation)
}

pub(super) fn put<D: Collected>() -> Described {
    let one = singular(D::KIND);
    let operation = OperationBuilder::new()
        .summary(Some(format!("Creates or replaces one {one}.")))
        .operation_id(Some(format!("put_{one}")))
        .parameters(Some(names(D::KIND)))
        .parameters(Some(WriteQuery::into_params(|| None)))
        .parameters(Some(["If-Match", "If-None-Match"].map(condition)))
        .request_body(Some(body::<D>()))
        .response("200", tagged::<D>())
        .response("201", tagged::<D>());
    described::<D>(HttpMethod::Put, operation)
}

pub(super) fn delete(kind: Kind) -> Described {
    let one = singular(kind);
    let operation = OperationBuilder::new()
        .summary(Some(format!("Deletes one {one}.")))
        .operation_id(Some(format!("delete_{one}")))
        .parameters(Some(names(kind)))
        .parameters(Some(WriteQuery::into_params(|| None)))
        .parameters(Some([condition("If-Match")]))
        .response("204", Response::default());
    Described {
        method: HttpMethod::Delete,
        path: object_path(kind),
        operation: operation.build(),
        schemas: Vec::new(),
    }
}

fn described<D: Collected>(method: HttpMethod, operation: OperationBuilder) -> Described {
    Described {
        method,
        path: object_path(D::KIND),
        operation: operation.build(),
        schemas: schemas::<D>(),
    }
}

fn singular(kind: Kind) -> String {
    kind.as_str().to_ascii_lowercase()
}

fn object_path(kind: Kind) -> String {
    let segments: String = placeholders(kind)
        .map(|name| format!("/{{{name}}}"))
        .collect();
    format!("/v1/{}{segments}", kind.plural())
}

fn names(kind: Kind) -> impl Iterator<Item = Parameter> {
    placeholders(kind).map(|name| {
        parameter(name, ParameterIn::Path)
            .required(Required::True)
            .schema(Some(String::schema()))
            .build()
    })
}

fn placeholders(kind: Kind) -> impl Iterator<Item = &'static str> {
    let namespace = kind.is_namespaced().then_some("namespace");
    namespace.into_iter().chain(["name"])
}

fn condition(header: &str) -> Parameter {
    let text_or_nothing = SchemaType::from_iter([Type::String, Type::Null]);
    parameter(header, ParameterIn::Header)
        .required(Required::False)
        .schema(Some(ObjectBuilder::new().schema_type(text_or_nothing)))
        .build()
}

fn parameter(name: &str, place: ParameterIn) -> ParameterBuilder {
    ParameterBuilder::new().name(name).parameter_in(place)
}

fn body<D: ToSchema>() -> RequestBody {
    RequestBodyBuilder::new()
        .content(JSON, content::<D>())
        .content(YAML, Content::new(Some(String::schema())))
        .required(Some(Required::True))
        .build()
}

fn tagged<D: ToSchema>() -> Response {
    ok::<D>().header("ETag", Header::default()).build()
}

fn ok<D: ToSchema>() -> ResponseBuilder {
    ResponseBuilder::new().content(JSON, content::<D>())
}

fn content<D: ToSchema>() -> Content {
    Content::new(Some(RefOr::Ref(Ref::from_schema_name(D::name()))))
}

fn schemas<D: ToSchema>() -> Vec<(String, RefOr<Schema>)> {
    let mut schemas = vec![(D::name().into_owned(), D::schema())];
    D::schemas(&mut schemas);
    schemas
}
