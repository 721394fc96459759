//! The store against a real CA on a loopback socket, and against sources that are away, slow or count.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::HashSet,
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::timeout;

use super::{
    CaClient, CaClientOptions, CertificateSource, CertificateState, Embedded, IdentityError, IdentityStore,
    IssueError, Issuing, StoreOptions,
};
use crate::{
    ca::{Authority, AuthorityOptions, CaOptions, SigningOptions, bind, rotate},
    snapshot::spiffe::SpiffeId,
    tls::{Clock, accept, connect, test_authority::shop},
};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const PATIENCE: Duration = Duration::from_secs(20);

fn authority_options(folder: &Path) -> AuthorityOptions {
    AuthorityOptions {
        state: folder.join("ca"),
        signing: SigningOptions {
            trust_domain: "cluster.local".to_owned(),
            default_validity: Duration::from_secs(24 * 3600),
            longest_validity: Duration::from_secs(24 * 3600),
        },
    }
}

fn secret(path: PathBuf, text: &str) -> PathBuf {
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// Serves a CA from `folder`; it stops when the test's runtime does, or when aborted.
async fn serve(folder: &Path, listen: &str) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let options = CaOptions {
        authority: authority_options(folder),
        listen: listen.parse().unwrap(),
        token_file: secret(folder.join("tokens"), &format!("node-a {TOKEN}\n")),
        names: Vec::new(),
    };
    let bound = bind(options, Clock::system()).await.unwrap();
    (bound.address().unwrap(), tokio::spawn(bound.serve(std::future::pending())))
}

fn client(folder: &Path, address: SocketAddr, token: &str) -> CaClientOptions {
    CaClientOptions {
        url: format!("https://{address}"),
        server_name: None,
        root_file: folder.join("ca/root.pem"),
        token_file: secret(folder.join("token"), token),
        cluster_id: None,
        connect_timeout: Duration::from_secs(5),
    }
}

fn remote(folder: &Path, address: SocketAddr, token: &str) -> Arc<CaClient> {
    Arc::new(CaClient::new(client(folder, address, token), Clock::system()).unwrap())
}

fn start(source: Arc<dyn CertificateSource>, clock: Clock) -> IdentityStore {
    IdentityStore::start(StoreOptions::default(), source, clock)
}

async fn ready(store: &IdentityStore, id: &SpiffeId) -> Arc<crate::tls::TlsIdentity> {
    timeout(PATIENCE, store.ready(id)).await.unwrap().unwrap()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}

#[tokio::test]
async fn certificates_come_over_grpc_and_serve_handshakes() {
    let folder = tempfile::tempdir().unwrap();
    let (address, _ca) = serve(folder.path(), "127.0.0.1:0").await;
    let store = start(remote(folder.path(), address, TOKEN), Clock::system());
    store.keep(HashSet::from([shop("web"), shop("cart")]));
    let (web, cart) = (ready(&store, &shop("web")).await, ready(&store, &shop("cart")).await);
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (client, server) =
        tokio::join!(connect(&web, &cart.id, [127, 0, 0, 1].into(), near), accept(&cart, far));
    assert!(client.is_ok());
    assert_eq!(server.unwrap().1, web.id);
    let list = store.list();
    assert_eq!(
        list.iter().map(|row| (row.state, row.issued_total)).collect::<Vec<_>>(),
        [(CertificateState::Valid, 1); 2]
    );
    store.keep(HashSet::from([shop("web")]));
    assert!(store.current(&shop("cart")).is_none() && store.current(&shop("web")).is_some());
}

#[tokio::test]
async fn the_ca_refuses_strangers_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let (address, _ca) = serve(folder.path(), "[::1]:0").await;
    let store = start(remote(folder.path(), address, "not-a-token-of-that-ca"), Clock::system());
    let refused = timeout(PATIENCE, store.ready(&shop("web"))).await.unwrap().unwrap_err();
    assert!(
        matches!(&refused, IdentityError::Refused { reason, .. } if reason.contains("unknown join token")),
        "{refused}"
    );
    // The token is read anew at each use.
    secret(folder.path().join("token"), TOKEN);
    let far = SpiffeId::new("elsewhere", "shop", "web");
    let refused = timeout(PATIENCE, store.ready(&far)).await.unwrap().unwrap_err();
    assert!(refused.to_string().contains("not of the trust domain `cluster.local`"), "{refused}");
    ready(&store, &shop("web")).await;
}

#[tokio::test]
async fn oversized_requests_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (address, _ca) = serve(folder.path(), "127.0.0.1:0").await;
    let client = remote(folder.path(), address, TOKEN);
    let huge = "x".repeat(100 * 1024);
    let asked = client.issue(&shop("web"), &huge, PATIENCE).await.unwrap_err();
    assert!(asked.to_string().contains("too large"), "{asked}");
    let broken = client.issue(&shop("web"), "x", PATIENCE).await.unwrap_err();
    assert!(matches!(&broken, IssueError::Refused(text) if text.contains("field `csr`")), "{broken}");
}

#[tokio::test]
async fn a_ca_with_another_root_is_not_spoken_to() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (address, _ca) = serve(folder.path(), "127.0.0.1:0").await;
    drop(Authority::open(authority_options(other.path()), Clock::system().date()).unwrap());
    let store = start(remote(other.path(), address, TOKEN), Clock::system());
    assert!(timeout(Duration::from_secs(2), store.ready(&shop("web"))).await.is_err());
    let error = store.last_error(&shop("web")).unwrap();
    assert!(error.contains("UnknownIssuer") || error.contains("certificate"), "{error}");
    // The right root arrives; no restart.
    fs::copy(folder.path().join("ca/root.pem"), other.path().join("ca/root.pem")).unwrap();
    ready(&store, &shop("web")).await;
}

#[tokio::test]
async fn a_ca_that_comes_back_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let (address, ca) = serve(folder.path(), "127.0.0.1:0").await;
    let store = start(remote(folder.path(), address, TOKEN), Clock::system());
    ready(&store, &shop("web")).await;
    ca.abort();
    assert!(ca.await.is_err());
    assert!(timeout(Duration::from_secs(1), store.ready(&shop("cart"))).await.is_err());
    assert!(store.current(&shop("web")).is_some());
    let (_, _ca) = serve(folder.path(), &address.to_string()).await;
    ready(&store, &shop("cart")).await;
}

/// The embedded CA with switches: away, slow, counting.
struct Switched {
    inner: Embedded,
    away: AtomicBool,
    slow: Duration,
    running: AtomicUsize,
    most: AtomicUsize,
    order: Mutex<Vec<SpiffeId>>,
}

impl Switched {
    fn new(folder: &Path, clock: &Clock, slow: Duration) -> Arc<Self> {
        let authority = Arc::new(Authority::open(authority_options(folder), clock.date()).unwrap());
        Arc::new(Self {
            inner: Embedded::new(authority, clock.clone()),
            away: AtomicBool::new(false),
            slow,
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            order: Mutex::default(),
        })
    }
}

impl CertificateSource for Switched {
    fn issue<'a>(&'a self, id: &'a SpiffeId, csr: &'a str, validity: Duration) -> Issuing<'a> {
        Box::pin(async move {
            self.most.fetch_max(self.running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            self.order.lock().unwrap().push(id.clone());
            tokio::time::sleep(self.slow).await;
            self.running.fetch_sub(1, Ordering::SeqCst);
            match self.away.load(Ordering::SeqCst) {
                true => Err(IssueError::Unavailable("away".to_owned())),
                false => self.inner.issue(id, csr, validity).await,
            }
        })
    }
}

fn manual_clock() -> (Clock, Arc<AtomicU64>) {
    let seconds = Arc::new(AtomicU64::new(Clock::system().since_epoch().as_secs()));
    let read = seconds.clone();
    (Clock::new(move || Duration::from_secs(read.load(Ordering::SeqCst))), seconds)
}

#[tokio::test]
async fn renews_at_half_life_and_keeps_the_old_one_while_the_ca_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let (clock, seconds) = manual_clock();
    let source = Switched::new(folder.path(), &clock, Duration::ZERO);
    let store = start(source.clone(), clock);
    let first = ready(&store, &shop("web")).await;
    let nudge = || store.keep(HashSet::from([shop("web")]));

    seconds.fetch_add(14 * 3600, Ordering::SeqCst);
    nudge();
    until("renewed", || store.current(&shop("web")).unwrap().serial != first.serial).await;
    let second = store.current(&shop("web")).unwrap();
    assert_eq!(store.list()[0].issued_total, 2);

    source.away.store(true, Ordering::SeqCst);
    seconds.fetch_add(14 * 3600, Ordering::SeqCst);
    nudge();
    until("failed", || store.list()[0].failed_total > 0).await;
    assert_eq!(store.list()[0].state, CertificateState::RenewalFailing);
    assert_eq!(store.current(&shop("web")).unwrap().serial, second.serial);

    seconds.fetch_add(11 * 3600, Ordering::SeqCst);
    assert!(store.current(&shop("web")).is_none(), "never used after its end");
    assert_eq!(store.list()[0].state, CertificateState::Expired);

    source.away.store(false, Ordering::SeqCst);
    seconds.fetch_add(120, Ordering::SeqCst);
    ready(&store, &shop("web")).await;
    assert_eq!(store.list()[0].last_error, None);
}

#[tokio::test]
async fn connections_go_before_prefetching_and_the_ca_is_not_flooded() {
    let folder = tempfile::tempdir().unwrap();
    let source = Switched::new(folder.path(), &Clock::system(), Duration::from_millis(100));
    let store = start(source.clone(), Clock::system());
    let many: HashSet<_> = (0..40).map(|number| shop(&format!("s{number}"))).collect();
    store.keep(many.clone());
    until("busy", || source.order.lock().unwrap().len() == 6).await;
    let wanted = shop("urgent");
    let (one, two) = tokio::join!(ready(&store, &wanted), ready(&store, &wanted));
    assert_eq!(one.serial, two.serial, "one request for both");
    let position = source.order.lock().unwrap().iter().position(|id| *id == wanted).unwrap();
    assert!(position <= 8, "asked for as number {position}");
    until("all", || many.iter().all(|id| store.current(id).is_some())).await;
    assert_eq!(source.order.lock().unwrap().len(), 41);
    assert!(source.most.load(Ordering::SeqCst) <= 8);
}

#[tokio::test]
async fn a_waiting_connection_outlives_a_change_of_what_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let source = Switched::new(folder.path(), &Clock::system(), Duration::from_millis(200));
    let store = start(source.clone(), Clock::system());
    let wanted = shop("web");
    let forget = async {
        until("asked", || source.order.lock().unwrap().len() == 1).await;
        store.keep(HashSet::new());
    };
    tokio::join!(ready(&store, &wanted), forget);
    store.keep(HashSet::new());
    assert!(store.current(&wanted).is_none(), "forgotten when nobody waits");
    drop(store.clone());
    assert!(store.list().is_empty());
}

#[tokio::test]
async fn a_new_root_reaches_all_identities() {
    let folder = tempfile::tempdir().unwrap();
    let options = authority_options(folder.path());
    let authority = Arc::new(Authority::open(options.clone(), Clock::system().date()).unwrap());
    let store = start(Arc::new(Embedded::new(authority, Clock::system())), Clock::system());
    let before = ready(&store, &shop("web")).await;
    rotate(&options, Some(Duration::from_secs(1))).unwrap();
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let cart = ready(&store, &shop("cart")).await;
    let web = store.current(&shop("web")).unwrap();
    assert_eq!(web.serial, before.serial, "not renewed,");
    assert!(!Arc::ptr_eq(&web, &before), "but rebuilt");
    // web's leaf is of the old root, cart's of the new one; both verify, both ways.
    for (client, server) in [(&web, &cart), (&cart, &web)] {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let dial = connect(client, &server.id, [127, 0, 0, 1].into(), near);
        let (dialled, accepted) = tokio::join!(dial, accept(server, far));
        assert!(dialled.is_ok(), "{dialled:?}");
        assert_eq!(accepted.unwrap().1, client.id);
    }
    // Who has not heard of the new root refuses it.
    let (near, far) = tokio::io::duplex(64 * 1024);
    let dial = connect(&before, &cart.id, [127, 0, 0, 1].into(), near);
    let (dialled, _) = tokio::join!(dial, accept(&cart, far));
    assert!(matches!(dialled, Err(crate::tls::TlsError::UnknownIssuer)));
}
