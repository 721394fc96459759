//! Many bytes, many streams, readers that stop.

use super::*;
use crate::tunnel::Tunnel;

#[test]
fn small_messages_of_many_streams_share_a_write() {
    on_worker(async {
        let world = World::new(Settings::default()).await;
        let mut opened = Vec::new();
        for _ in 0..100 {
            opened.push(world.open("echo").await.unwrap());
        }
        assert_eq!(world.dials.get(), 1);
        tokio::time::sleep(Duration::from_millis(50)).await;
        let counters = world.last.borrow().as_ref().unwrap().counters();
        let before = counters.writes.get();
        let rounds = opened.iter_mut().map(|stream| async {
            write(&mut stream.send, Bytes::from(vec![7; 1000])).await.unwrap();
            let back = read(&mut stream.receive).await.unwrap().unwrap();
            let writes = counters.writes.get();
            stream.receive.release(back.len());
            (back.len(), writes)
        });
        let done = futures_util::future::join_all(rounds).await;
        assert!(done.iter().all(|(length, _)| *length == 1000));
        // Each stream noted the count before it answered; window updates come later.
        let writes = done.iter().map(|(_, writes)| writes).max().unwrap() - before;
        assert!((1..=2).contains(&writes), "{writes} writes");
    });
}

#[test]
fn many_megabytes_arrive_whole() {
    on_worker(async {
        let world = World::new(Settings::default()).await;
        let mut data = vec![0; 64 << 20];
        fastrand::Rng::with_seed(3).fill(&mut data);
        let data = Bytes::from(data);
        let Opened { mut send, mut receive, .. } = world.open("echo").await.unwrap();
        let upload = async {
            for start in (0..data.len()).step_by(200_000) {
                write(&mut send, data.slice(start..data.len().min(start + 200_000))).await.unwrap();
            }
            send.finish().unwrap();
        };
        let (back, ()) = tokio::join!(read_all(&mut receive), upload);
        assert_eq!(hash(&back.unwrap()), hash(&data));
        let counters = world.last.borrow().as_ref().unwrap().counters();
        let each = counters.sent.get() / counters.writes.get();
        assert!(each > 50_000, "only {each} bytes a write");
    });
}

#[test]
fn a_stuck_reader_stops_its_writer_and_nobody_else() {
    on_worker(async {
        let world = World::new(Settings::default()).await;
        let mut stuck = world.open("stuck").await.unwrap();
        let mut taken = 0;
        let fill = async {
            loop {
                let room = poll_fn(|context| stuck.send.poll_capacity(context, 64 << 10)).await.unwrap();
                stuck.send.send(Bytes::from(vec![1; room])).unwrap();
                taken += room;
            }
        };
        assert!(timeout(Duration::from_millis(500), fill).await.is_err());
        let window = world.settings.stream_window as usize;
        assert!((window..=window + world.settings.send_queue).contains(&taken), "{taken}");
        let mut other = world.open("echo").await.unwrap();
        write(&mut other.send, Bytes::from_static(b"hello")).await.unwrap();
        assert_eq!(read(&mut other.receive).await, Some(Ok(Bytes::from_static(b"hello"))));
        assert_eq!(world.dials.get(), 1);
    });
}

/// Writes into streams whose peer does not read, for as long as they take anything; says how much all took.
async fn fill(streams: &mut [Opened<ReferenceTunnel>]) -> usize {
    let taken = Cell::new(0);
    let writers = streams.iter_mut().map(|stream| async {
        loop {
            let room = poll_fn(|context| stream.send.poll_capacity(context, 64 << 10)).await.unwrap();
            stream.send.send(Bytes::from(vec![1; room])).unwrap();
            taken.set(taken.get() + room);
        }
    });
    let mut writing = std::pin::pin!(futures_util::future::join_all(writers));
    let mut before = None;
    while before != Some(taken.get()) {
        before = Some(taken.get());
        assert!(timeout(Duration::from_secs(1), writing.as_mut()).await.is_err());
    }
    taken.get()
}

async fn open_all(world: &World, host: &str, count: usize) -> Vec<Opened<ReferenceTunnel>> {
    let opened = (0..count).map(|_| world.open(host));
    futures_util::future::try_join_all(opened).await.map_err(|error| error.to_string()).unwrap()
}

async fn is_answered(world: &World) {
    let mut other = world.open("echo").await.unwrap();
    write(&mut other.send, Bytes::from(vec![7; 300_000])).await.unwrap();
    other.send.finish().unwrap();
    assert_eq!(read_all(&mut other.receive).await.unwrap().len(), 300_000);
    assert_eq!(world.dials.get(), 1);
}

#[test]
fn stuck_readers_that_fill_more_than_the_connection_stop_nobody_else() {
    on_worker(async {
        let world = World::new(Settings::default()).await;
        let mut stuck = open_all(&world, "stuck", 8).await;
        let taken = fill(&mut stuck).await;
        assert!(taken > world.settings.connection_window as usize, "{taken}");
        is_answered(&world).await;
        // The other way.
        let _unread = open_all(&world, "spout", 8).await;
        let mut spouted = 0;
        while spouted == 0 || world.spouted.get() > spouted {
            spouted = world.spouted.get();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(spouted > world.settings.connection_window as usize, "{spouted}");
        is_answered(&world).await;
    });
}

#[test]
fn what_stuck_readers_hold_together_is_bounded() {
    on_worker(async {
        let world = World::new(Settings::default()).await;
        let (count, settings) = (40, &world.settings);
        let mut stuck = open_all(&world, "stuck", count).await;
        let taken = fill(&mut stuck).await;
        let each = settings.least_stream_window as usize + settings.send_queue;
        let bound = settings.unread as usize + settings.connection_window as usize + count * each;
        assert!(taken < bound && bound < count * settings.stream_window as usize, "{taken} of {bound}");
        is_answered(&world).await;
        drop(stuck);
        // The windows are large again, before long.
        let grown = async {
            loop {
                let mut one = open_all(&world, "stuck", 1).await;
                if fill(&mut one).await >= settings.stream_window as usize {
                    break;
                }
                is_answered(&world).await;
            }
        };
        timeout(Duration::from_secs(30), grown).await.expect("the windows stay small");
    });
}

#[test]
fn readers_that_stop_amid_tiny_messages_keep_their_tunnel_and_get_all_of_them_later() {
    on_worker(async {
        // Enough for a twentieth of them.
        let world = World::new(Settings { small_frames: 256 << 10, ..Settings::default() }).await;
        let mut late = world.open("tiny").await.unwrap();
        let mut stuck = world.open("stuck").await.unwrap();
        for _ in 0..TINY {
            write(&mut stuck.send, Bytes::from_static(&[1; 20])).await.unwrap();
            tokio::task::yield_now().await;
        }
        world.saw("all is sent").await;
        is_answered(&world).await;
        let all = read_all(&mut late.receive).await.unwrap();
        assert!(all.chunks(4).map(|message| u32::from_be_bytes(message.try_into().unwrap())).eq(0..TINY));
    });
}

#[test]
fn who_waits_is_woken_whatever_was_taken_out_meanwhile() {
    on_worker(async {
        let world = World::new(Settings::default()).await;
        let mut waits = world.open("echo").await.unwrap();
        write(&mut waits.send, Bytes::from_static(b"first")).await.unwrap();
        // Kept without its window, so that something seems to lie unread.
        assert_eq!(read(&mut waits.receive).await, Some(Ok(Bytes::from_static(b"first"))));
        let mut receive = waits.receive;
        let heard = spawn_local(async move { read(&mut receive).await });
        for _ in 0..10 {
            is_answered(&world).await;
        }
        write(&mut waits.send, Bytes::from_static(b"second")).await.unwrap();
        assert_eq!(heard.await.unwrap(), Some(Ok(Bytes::from_static(b"second"))));
    });
}

#[test]
fn a_thousand_short_streams_leave_nothing() {
    on_worker(async {
        let world = World::new(Settings::default()).await;
        for _ in 0..20 {
            let short = (0..50).map(|_| async {
                let mut opened = world.open("echo").await.unwrap();
                write(&mut opened.send, Bytes::from_static(b"x")).await.unwrap();
                opened.send.finish().unwrap();
                assert_eq!(read_all(&mut opened.receive).await.unwrap(), b"x");
            });
            futures_util::future::join_all(short).await;
        }
        assert_eq!((world.dials.get(), world.pool.size()), (1, (1, 0)));
        let poll = Poll::Ready(world.last.borrow().as_ref().unwrap().has_room());
        assert_eq!(poll, Poll::Ready(true));
    });
}
