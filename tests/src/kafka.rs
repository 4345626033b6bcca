//! A real broker: one KRaft node from the jars that `scripts/fetch-kafka` put into the cache.

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;
use rustix::process::Signal;
use std::future::Future;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use crate::process::{Process, last_lines};
use crate::{scratch, wait};

/// A broker on ports of its own. Dropping it kills it and removes its data.
pub struct Kafka {
    home: tempfile::TempDir,
    port: u16,
    broker: Mutex<Option<Process>>,
}

impl Kafka {
    /// The one that all tests of this process share. Tests that stop or freeze a broker start their own.
    pub fn shared() -> &'static Kafka {
        static SHARED: OnceLock<Kafka> = OnceLock::new();
        SHARED.get_or_init(Kafka::start)
    }

    /// A broker that is ready.
    pub fn start() -> Kafka {
        let home = scratch::dir("kafka");
        let (port, controller) = (scratch::port(), scratch::port());
        let data = home.path().join("data");
        std::fs::create_dir(&data).expect("the data directory can be made");
        // What `StorageTool format` would write, without the seconds that its JVM takes.
        let formatted =
            "version=1\ncluster.id=dGFpbG1pbGwtdGVzdHMtMQ\nnode.id=1\ndirectory.id=dGFpbG1pbGwtdGVzdHMtMg\n";
        std::fs::write(data.join("meta.properties"), formatted).expect("a small file can be written");
        let properties = server_properties(port, controller, &data.display().to_string());
        std::fs::write(home.path().join("server.properties"), properties).expect("a small file can be written");
        let kafka = Kafka { home, port, broker: Mutex::new(None) };
        kafka.start_again();
        kafka
    }

    /// `host:port` for clients.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// SIGTERM, as an operator would. Returns when the process is gone.
    pub fn stop(&self) {
        self.take().terminate();
    }

    /// SIGKILL. Returns when the process is gone.
    pub fn kill(&self) {
        self.take().kill();
    }

    /// Starts it on the same ports with the same data; returns when it is ready.
    pub fn start_again(&self) {
        let log = self.log();
        let before = std::fs::read_to_string(&log).unwrap_or_default().matches(READY).count();
        let mut process = Process::start("kafka", &mut self.command(), &log);
        let ready = || {
            if let Some(status) = process.ended() {
                panic!("kafka ended with {status}\n{}", last_lines(&log, 40));
            }
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            (text.matches(READY).count() > before).then_some(())
        };
        wait::until("kafka is ready", || last_lines(&log, 40), ready);
        *self.broker.lock().expect("no test panicked in here") = Some(process);
    }

    /// SIGSTOP: connections stay open, nothing is answered.
    pub fn freeze(&self) {
        self.with(|broker| broker.signal(Signal::STOP));
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.with(|broker| broker.signal(Signal::CONT));
    }

    /// A new topic with a name of its own that begins with `name`.
    pub fn topic(&self, name: &str, partitions: i32) -> String {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let topic = format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.create(&topic, partitions, &[]);
        topic
    }

    /// A new topic with exactly this name and these settings.
    pub fn create(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for (key, value) in settings {
            new = new.set(key, value);
        }
        let admin = self.admin();
        wait::until(
            "the topic is made",
            || self.report(),
            || match block_on(admin.create_topics([&new], &patient())).map(|mut results| results.remove(0)) {
                Ok(Ok(_)) | Ok(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Some(()),
                Ok(Err((_, RDKafkaErrorCode::RequestTimedOut))) | Err(_) => None,
                Ok(Err((topic, error))) => panic!("while creating {topic}: {error}"),
            },
        );
        wait::until("the topic has leaders", || self.report(), || self.has_leaders(topic, partitions).then_some(()));
    }

    /// Deletes a topic.
    pub fn delete(&self, topic: &str) {
        let results = block_on(self.admin().delete_topics(&[topic], &patient())).expect("the broker answers");
        assert!(results.iter().all(Result::is_ok), "while deleting {topic}: {results:?}");
    }

    /// Settings of a client of this broker.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.brokers()).set("reconnect.backoff.max.ms", "500");
        config
    }

    /// The broker's last words.
    pub fn report(&self) -> String {
        last_lines(&self.log(), 20)
    }

    fn has_leaders(&self, topic: &str, partitions: i32) -> bool {
        let metadata = self.admin().inner().fetch_metadata(Some(topic), Duration::from_secs(10));
        metadata.is_ok_and(|metadata| {
            let partitions_now = metadata.topics().first().map(|topic| topic.partitions()).unwrap_or_default();
            partitions_now.len() == partitions as usize && partitions_now.iter().all(|one| one.leader() >= 0)
        })
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().expect("an admin client can be made")
    }

    fn log(&self) -> PathBuf {
        self.home.path().join("kafka.log")
    }

    fn command(&self) -> Command {
        let dist = dist();
        let mut java = Command::new("java");
        java.args(["-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg(format!("-Dlog4j2.configurationFile={}/log4j2.xml", dist.display()))
            .args(["-cp", &format!("{}/libs/*", dist.display()), "kafka.Kafka"])
            .arg(self.home.path().join("server.properties"));
        java
    }

    fn take(&self) -> Process {
        self.broker.lock().expect("no test panicked in here").take().expect("the broker is running")
    }

    fn with(&self, act: impl FnOnce(&Process)) {
        act(self.broker.lock().expect("no test panicked in here").as_ref().expect("the broker is running"));
    }
}

const READY: &str = "Kafka Server started";

/// `scripts/fetch-kafka` knows where it is; when it is there already, that costs some milliseconds.
fn dist() -> PathBuf {
    static DIST: OnceLock<PathBuf> = OnceLock::new();
    DIST.get_or_init(|| scratch::fetched("fetch-kafka")).clone()
}

fn server_properties(port: u16, controller: u16, data: &str) -> String {
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         controller.listener.names=CONTROLLER\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
         log.dirs={data}\n\
         num.network.threads=2\n\
         num.io.threads=2\n\
         auto.create.topics.enable=true\n\
         group.initial.rebalance.delay.ms=0\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n\
         log.segment.delete.delay.ms=100\n"
    )
}

fn patient() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(Duration::from_secs(30))).request_timeout(Some(Duration::from_secs(40)))
}

/// Runs a future to its end, for the clients that only speak async.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().expect("a runtime can be made")
    });
    runtime.block_on(future)
}
