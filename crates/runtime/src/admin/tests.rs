use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

struct Served {
    directory: tempfile::TempDir,
    socket: AdminSocket,
    source: AdminSource,
    shutdown: Shutdown,
}

impl Served {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = AdminSocket::bind(directory.path().join("admin.sock")).unwrap();
        let (trigger, shutdown) = Shutdown::pair();
        let status = Arc::new(|| json!({ "revision": "0a-7" }));
        Self {
            directory,
            socket,
            source: AdminSource {
                status,
                log_level: None,
                trigger,
            },
            shutdown,
        }
    }

    async fn answer(self, request: &str) -> (String, Shutdown) {
        let path = self.directory.path().join("admin.sock");
        let request = format!("{request} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let trigger = self.source.trigger.clone();
        let client = async {
            let mut stream = UnixStream::connect(path).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            text
        };
        let serving = self.socket.serve(self.source, self.shutdown.clone());
        let text = tokio::select! {
            text = client => text,
            ended = async { serving.await.unwrap(); std::future::pending().await } => ended,
        };
        drop(trigger);
        (text, self.shutdown)
    }
}

#[test]
fn other_user_is_not_permitted() {
    assert!(!is_permitted(1001, 1000));
    assert!(is_permitted(1000, 1000) && is_permitted(0, 1000));
}

#[tokio::test]
async fn file_that_is_no_socket_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    fs::write(&path, "precious").unwrap();
    let error = AdminSocket::bind(&path).unwrap_err();
    assert!(matches!(error, AdminError::NotASocket { .. }));
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[tokio::test]
async fn live_socket_is_not_replaced() {
    let served = Served::new();
    let error = AdminSocket::bind(served.directory.path().join("admin.sock")).unwrap_err();
    assert!(matches!(error, AdminError::InUse { .. }));
}

#[tokio::test]
async fn socket_of_a_dead_process_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(AdminSocket::bind(&path).is_ok());
}

#[tokio::test]
async fn socket_is_closed_to_others() {
    let served = Served::new();
    let metadata = fs::metadata(served.directory.path().join("admin.sock")).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn status_is_answered_as_json() {
    let (text, _) = Served::new().answer("GET /status").await;
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with(r#"{"revision":"0a-7"}"#));
}

#[tokio::test]
async fn drain_begins_the_shutdown() {
    let (text, shutdown) = Served::new().answer("POST /drain").await;
    assert!(text.starts_with("HTTP/1.1 202"));
    assert!(shutdown.is_draining());
}
