//! Operations registered once: as a route, and as what the OpenAPI document says of it.

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, on};
use utoipa::__dev::SchemaReferences;
use utoipa::openapi::path::{HttpMethod, Operation, Paths};
use utoipa::openapi::{Content, Ref, RefOr, ResponseBuilder, Schema};

/// What the document says of one operation, and where it is served.
pub(super) struct Described {
    pub(super) method: HttpMethod,
    pub(super) path: String,
    pub(super) operation: Operation,
    /// The bodies that it names.
    pub(super) schemas: Vec<(String, RefOr<Schema>)>,
}

/// Operations on a state `S`; without one, ready to be served.
pub(super) struct Documented<S = ()> {
    router: Router<S>,
    paths: Paths,
    schemas: Vec<(String, RefOr<Schema>)>,
}

impl<S: Clone + Send + Sync + 'static> Documented<S> {
    pub(super) fn new() -> Self {
        Self {
            router: Router::new(),
            paths: Paths::new(),
            schemas: Vec::new(),
        }
    }

    /// Serves `handler` where, and by the method that, `P` documents.
    pub(super) fn on<P, H, T>(self, _operation: &P, handler: H) -> Self
    where
        P: utoipa::Path + SchemaReferences,
        H: Handler<T, S>,
        T: 'static,
    {
        let mut schemas = Vec::new();
        P::schemas(&mut schemas);
        let method = P::methods().pop();
        let described = Described {
            method: method.expect("an operation has a method"),
            path: P::path(),
            operation: P::operation(),
            schemas,
        };
        self.serve(described, handler)
    }

    /// Serves `handler` where, and by the method that, `described` says.
    pub(super) fn serve<H, T>(mut self, described: Described, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        let Described {
            method,
            path,
            operation,
            schemas,
        } = described;
        self.schemas.extend(schemas);
        self.router = self.router.route(&path, on(filter(&method), handler));
        // A placeholder for the rest of a path is one of several segments, which OpenAPI has no
        // word for.
        let path = path.replace("{*", "{");
        self.paths
            .add_path_operation(&path, vec![method], with_problem(operation));
        self
    }

    pub(super) fn with(self, state: S) -> Documented {
        let Self {
            router,
            paths,
            schemas,
        } = self;
        Documented {
            router: router.with_state(state),
            paths,
            schemas,
        }
    }
}

impl<S> Documented<S> {
    pub(super) fn paths(&self) -> &Paths {
        &self.paths
    }

    /// The bodies that the operations name.
    pub(super) fn schemas(&self) -> &[(String, RefOr<Schema>)] {
        &self.schemas
    }
}

impl Documented {
    pub(super) fn merge(mut self, other: Self) -> Self {
        self.paths.merge(other.paths);
        self.schemas.extend(other.schemas);
        Self {
            router: self.router.merge(other.router),
            ..self
        }
    }

    pub(super) fn into_router(self) -> Router {
        self.router
    }
}

fn filter(method: &HttpMethod) -> MethodFilter {
    match method {
        HttpMethod::Get => MethodFilter::GET,
        HttpMethod::Post => MethodFilter::POST,
        HttpMethod::Put => MethodFilter::PUT,
        HttpMethod::Delete => MethodFilter::DELETE,
        HttpMethod::Options => MethodFilter::OPTIONS,
        HttpMethod::Head => MethodFilter::HEAD,
        HttpMethod::Patch => MethodFilter::PATCH,
        HttpMethod::Trace => MethodFilter::TRACE,
    }
}

fn with_problem(mut operation: Operation) -> Operation {
    let problem = ResponseBuilder::new()
        .description("Refused, or failed: says why and what to do next.")
        .content(
            "application/problem+json",
            Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem")))),
        )
        .build();
    operation
        .responses
        .responses
        .insert("default".to_owned(), problem.into());
    operation
}
