//! Between two sockets.

use super::*;
use crate::path::relay::through_socket;

/// Client, server, and how the relay between them ended.
async fn relayed() -> (TcpStream, TcpStream, tokio::task::JoinHandle<End>) {
    let (client, near) = pair().await;
    let (far, server) = pair().await;
    let relay = tokio::task::spawn_local(async move { through_socket(&near, &far, &Nothing).await });
    (client, server, relay)
}

#[test]
fn in_order() {
    on_worker(async {
        let (client, server, relay) = relayed().await;
        both_ways_and_half_close(client, server).await;
        assert!(is_finished(&relay.await.unwrap()));
        let (client, server, relay) = relayed().await;
        half_close_by_the_server(client, server).await;
        assert!(is_finished(&relay.await.unwrap()));
        let (client, server, relay) = relayed().await;
        much_both_ways(client, server).await;
        assert!(is_finished(&relay.await.unwrap()));
        let (client, server, relay) = relayed().await;
        end_behind_a_slow_reader(client, server).await;
        assert!(is_finished(&relay.await.unwrap()));
    });
}

#[test]
fn resets() {
    on_worker(async {
        let (client, server, relay) = relayed().await;
        reset_passes(client, server).await;
        assert!(matches!(relay.await.unwrap(), End::Near(_)));
        let (client, server, relay) = relayed().await;
        reset_passes(server, client).await;
        assert!(matches!(relay.await.unwrap(), End::Far(_)));
    });
}

#[test]
fn resets_pass_stuck_readers() {
    on_worker(async {
        let (client, server, relay) = relayed().await;
        reset_passes_a_stuck_reader(client, server).await;
        assert!(matches!(relay.await.unwrap(), End::Near(_)));
        let (client, server, relay) = relayed().await;
        reset_passes_a_stuck_reader(server, client).await;
        assert!(matches!(relay.await.unwrap(), End::Far(_)));
    });
}

#[test]
fn a_relay_that_is_dropped_is_no_end_of_file() {
    on_worker(async {
        let (mut client, mut server, relay) = relayed().await;
        client.write_all(b"half of").await.unwrap();
        server.read_exact(&mut [0; 7]).await.unwrap();
        relay.abort();
        let got = rest(&mut server).await;
        assert_eq!(got.1, Some(io::ErrorKind::ConnectionReset), "{got:?}");
        assert_eq!(rest(&mut client).await.1, Some(io::ErrorKind::ConnectionReset));
    });
}
