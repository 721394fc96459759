//! The tunnel over loopback TCP and real TLS: a server whose handlers are chosen by the host name of the CONNECT, and a pool.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod ends;
mod load;
mod pooling;
mod streams;

use std::{
    cell::{Cell, RefCell},
    collections::hash_map::DefaultHasher,
    future::{Future, pending, poll_fn},
    hash::Hasher,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::{LocalSet, spawn_local},
    time::timeout,
};

use super::{ReferenceIncoming, ReferenceReceive, ReferenceSend, ReferenceTunnel, connect, serve};
use crate::tunnel::{
    Authority, ConnectRequest, ConnectionId, Incoming, Key, OpenError, Opened, Pool, ReceiveHalf, Reset,
    SendHalf, Settings, StreamError, stream::ReadAhead,
};

/// Messages of "tiny", four bytes each.
const TINY: u32 = 20_000;

/// Runs a test as a worker thread would, and not for ever.
fn on_worker(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let within = async { timeout(Duration::from_secs(60), test).await.expect("the test hangs") };
    LocalSet::new().block_on(&runtime, within);
}

fn tls() -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let made = rcgen::generate_simple_self_signed(["agent".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13]);
    let mut client = client.unwrap().with_root_certificates(roots).with_no_client_auth();
    let server =
        ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
    let mut server = server.unwrap().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    client.alpn_protocols = vec![b"h2".to_vec()];
    server.alpn_protocols = vec![b"h2".to_vec()];
    (Arc::new(client), Arc::new(server))
}

/// A server, a pool, and levers to disturb them. Cheap to clone.
#[derive(Clone)]
struct World {
    address: SocketAddr,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    settings: Rc<Settings>,
    pool: Pool<ReferenceTunnel>,
    dials: Rc<Cell<usize>>,
    last: Rc<RefCell<Option<ReferenceTunnel>>>,
    drain: Rc<Notify>,
    freeze: Rc<Notify>,
    /// What handlers saw.
    seen: Rc<RefCell<Vec<String>>>,
    /// Bytes that went into streams of "spout".
    spouted: Rc<Cell<usize>>,
}

impl World {
    async fn new(settings: Settings) -> Self {
        let world = Self::without_server(settings).await;
        let listener = TcpListener::bind(world.address).await.unwrap();
        spawn_local(world.0.clone().listen(listener));
        world.0
    }

    /// The address is free to listen on.
    async fn without_server(settings: Settings) -> Bare {
        let (client, server) = tls();
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        Bare(Self {
            address,
            client,
            server,
            settings: Rc::new(settings),
            pool: Pool::default(),
            dials: Rc::default(),
            last: Rc::default(),
            drain: Rc::default(),
            freeze: Rc::default(),
            seen: Rc::default(),
            spouted: Rc::default(),
        })
    }

    async fn listen(self, listener: TcpListener) {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            spawn_local(self.clone().serve_one(socket));
        }
    }

    async fn serve_one(self, socket: TcpStream) {
        let acceptor = tokio_rustls::TlsAcceptor::from(self.server.clone());
        let Ok(stream) = acceptor.accept(ReadAhead::new(socket)).await else { return };
        let drain = async {
            self.drain.notified().await;
            Duration::from_secs(5)
        };
        let handler = |incoming| drop(spawn_local(handle(self.clone(), incoming)));
        let serving = serve(stream, &self.settings, handler, drain);
        tokio::pin!(serving);
        tokio::select! {
            end = &mut serving => self.seen.borrow_mut().push(format!("served: {end:?}")),
            // The connection stays open, and nobody looks after it.
            () = self.freeze.notified() => pending().await,
        }
    }

    fn key(&self) -> Key {
        let identity = |name: &str| format!("spiffe://cluster.local/ns/shop/sa/{name}").parse().unwrap();
        let (identity, expected) = (identity("client"), identity("server"));
        Key { pod: 1, peer: self.address, identity, serial: "1".into(), expected }
    }

    fn dial(
        &self,
    ) -> impl Fn() -> std::pin::Pin<Box<dyn Future<Output = Result<ReferenceTunnel, OpenError>>>> {
        let world = self.clone();
        move || {
            let world = world.clone();
            Box::pin(async move {
                world.dials.set(world.dials.get() + 1);
                let connector = tokio_rustls::TlsConnector::from(world.client.clone());
                let secure = async |io| {
                    let stream = connector.connect("agent".try_into().unwrap(), io).await;
                    stream.map_err(|error| OpenError::Tls(error.to_string().into()))
                };
                let tunnel = connect(&world.settings, TcpStream::connect(world.address), secure).await?;
                world.last.replace(Some(tunnel.clone()));
                Ok(tunnel)
            })
        }
    }

    async fn open(&self, host: &str) -> Result<Opened<ReferenceTunnel>, OpenError> {
        self.pool.open(&self.key(), &request(host), self.dial()).await
    }

    /// Waits until a handler has noted `what`.
    async fn saw(&self, what: &str) {
        while !self.seen.borrow().iter().any(|seen| seen == what) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until something was noted that mentions `what`.
    async fn saw_some(&self, what: &str) {
        while !self.seen.borrow().iter().any(|seen| seen.contains(what)) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

struct Bare(World);

impl std::ops::Deref for Bare {
    type Target = World;

    fn deref(&self) -> &World {
        &self.0
    }
}

fn request(host: &str) -> ConnectRequest {
    ConnectRequest {
        authority: Authority::Host(host.into(), 80),
        baggage: "k8s.namespace.name=shop".into(),
        forwarded: "for=\"10.0.0.1:4711\"".into(),
        traceparent: None,
        connection: ConnectionId(7),
        attempt: None,
    }
}

async fn handle(world: World, incoming: ReferenceIncoming) {
    let Authority::Host(host, _) = incoming.head().authority.clone() else { return incoming.refuse(400) };
    if let Some(status) = host.strip_prefix("refuse-") {
        return incoming.refuse(status.parse().unwrap());
    }
    match &*host {
        "forget" => return drop(incoming),
        "patient" => return wait_for_the_caller(&world, incoming).await,
        "head" => world.seen.borrow_mut().push(format!("{:?}", incoming.head())),
        _ => {}
    }
    let (mut send, mut receive) = incoming.accept(Some("service.name=server")).unwrap();
    if matches!(&*host, "reset" | "cancel") {
        // In the same pass the reset would overtake the answer.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    match &*host {
        "goodbye" => {
            write(&mut send, Bytes::from_static(b"bye")).await.unwrap();
            send.finish().unwrap();
            let got = read_all(&mut receive).await.unwrap();
            world.seen.borrow_mut().push(format!("got {}", String::from_utf8_lossy(&got)));
        }
        "reset" => send.reset(Reset::ConnectError),
        "cancel" => drop(send),
        "watch" => {
            let end = read_all(&mut receive).await;
            world.seen.borrow_mut().push(format!("end {end:?}"));
        }
        "tiny" => {
            for message in 0..TINY {
                write(&mut send, Bytes::copy_from_slice(&message.to_be_bytes())).await.unwrap();
                tokio::task::yield_now().await;
            }
            send.finish().unwrap();
            world.seen.borrow_mut().push("all is sent".into());
        }
        "stuck" => drop(poll_fn(|context| send.poll_reset(context)).await),
        "spout" => {
            while write(&mut send, Bytes::from(vec![1; 64 << 10])).await.is_ok() {
                world.spouted.set(world.spouted.get() + (64 << 10));
            }
        }
        _ => echo(send, receive).await,
    }
}

async fn wait_for_the_caller(world: &World, mut incoming: ReferenceIncoming) {
    world.seen.borrow_mut().push("asked".into());
    let gone = poll_fn(|context| incoming.poll_gone(context)).await;
    world.seen.borrow_mut().push(format!("gone {gone:?}"));
}

async fn echo(mut send: ReferenceSend, mut receive: ReferenceReceive) {
    while let Some(Ok(data)) = read(&mut receive).await {
        let length = data.len();
        if write(&mut send, data).await.is_err() {
            return;
        }
        receive.release(length);
    }
    let _ = send.finish();
}

async fn read(receive: &mut impl ReceiveHalf) -> Option<Result<Bytes, StreamError>> {
    poll_fn(|context| receive.poll_data(context)).await
}

async fn read_all(receive: &mut impl ReceiveHalf) -> Result<Vec<u8>, StreamError> {
    let mut all = Vec::new();
    while let Some(data) = read(receive).await {
        let data = data?;
        receive.release(data.len());
        all.extend_from_slice(&data);
    }
    Ok(all)
}

async fn write(send: &mut impl SendHalf, mut data: Bytes) -> Result<(), StreamError> {
    while !data.is_empty() {
        let room = poll_fn(|context| send.poll_capacity(context, data.len())).await?;
        send.send(data.split_to(room))?;
    }
    Ok(())
}

fn hash(data: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(data);
    hasher.finish()
}
