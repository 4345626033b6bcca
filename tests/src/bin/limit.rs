//! The limit: what librdkafka alone needs for the job. Maps a file, splits it by memchr and produces every line to
//! partition 0 of a topic in the cheapest correct way; waits for the last acknowledgement; prints one JSON object with
//! lines, bytes and the CPU time of this whole process.
//!
//! Cheapest and correct: `rd_kafka_produce_batch` without copy (the map outlives the producer), batches of 1,000, every
//! delivery report looked at (rarely, many at a time), idempotent, acks=all. `--per-message` is the classic way: one copying call a line.
//! `--errors-only` has librdkafka report only failures: no shipper that keeps marks can do that, but it bounds them all.
#![allow(clippy::print_stdout, reason = "the result is for whoever started it")]

use rdkafka_sys as rd;
use std::ffi::{CStr, CString, c_char, c_void};
use std::path::PathBuf;
use std::ptr;
use std::time::Instant;

const BATCH: usize = 1_000;
/// Batches between two looks at the reports: so rarely, each look finds many (measured: 0.85 of the CPU of a look after
/// each batch). Far below librdkafka's queue of 100,000 messages.
const POLL_EVERY: usize = 64;
const USAGE: &str = "limit FILE --brokers LIST --topic NAME [--keep LITERAL] [--drop LITERAL] [--per-message] [--errors-only] [-X KEY=VALUE]…";

#[derive(Default)]
struct Options {
    file: PathBuf,
    brokers: String,
    topic: String,
    keep: Option<Vec<u8>>,
    drop: Option<Vec<u8>>,
    per_message: bool,
    errors_only: bool,
    properties: Vec<(String, String)>,
}

fn main() -> anyhow::Result<()> {
    let options = options()?;
    let begun = Instant::now();
    let file = std::fs::File::open(&options.file)?;
    let size = usize::try_from(file.metadata()?.len())?;
    let data = map(&file, size)?;
    let mut producer = Producer::new(&options)?;
    if options.per_message {
        producer.one_by_one(lines(data, &options));
    } else {
        producer.in_batches(lines(data, &options));
    }
    producer.drain();
    let (cpu_us, wall_us) = (cpu_us(), begun.elapsed().as_micros());
    anyhow::ensure!(producer.failed == 0, "{} records failed", producer.failed);
    anyhow::ensure!(
        options.errors_only || producer.acked == producer.sent,
        "{} of {} acknowledged",
        producer.acked,
        producer.sent
    );
    println!("{{\"lines\":{},\"bytes\":{size},\"cpu_us\":{cpu_us},\"wall_us\":{wall_us}}}", producer.sent);
    Ok(())
}

fn options() -> anyhow::Result<Options> {
    let mut options = Options::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| anyhow::anyhow!("{argument} needs a value\n{USAGE}"));
        match argument.as_str() {
            "--brokers" => options.brokers = value()?,
            "--topic" => options.topic = value()?,
            "--keep" => options.keep = Some(value()?.into_bytes()),
            "--drop" => options.drop = Some(value()?.into_bytes()),
            "--per-message" => options.per_message = true,
            "--errors-only" => options.errors_only = true,
            "-X" => {
                let (key, of) =
                    value()?.split_once('=').map(|(key, of)| (key.to_owned(), of.to_owned())).unwrap_or_default();
                options.properties.push((key, of));
            }
            _ if argument.starts_with('-') => anyhow::bail!("unknown option {argument}\n{USAGE}"),
            _ => options.file = argument.into(),
        }
    }
    let complete = options.file.is_file() && !options.brokers.is_empty() && !options.topic.is_empty();
    anyhow::ensure!(complete, "a file, brokers and a topic are needed\n{USAGE}");
    Ok(options)
}

/// The lines that are to be produced.
fn lines<'a>(data: &'a [u8], options: &Options) -> impl Iterator<Item = &'a [u8]> {
    let keep = options.keep.as_ref().map(|literal| memchr::memmem::Finder::new(literal).into_owned());
    let drop = options.drop.as_ref().map(|literal| memchr::memmem::Finder::new(literal).into_owned());
    let mut start = 0;
    let all = memchr::memchr_iter(b'\n', data).map(move |end| {
        let line = &data[start..end];
        start = end + 1;
        line
    });
    all.filter(move |line| {
        keep.as_ref().is_none_or(|keep| keep.find(line).is_some())
            && drop.as_ref().is_none_or(|drop| drop.find(line).is_none())
    })
}

fn map(file: &std::fs::File, size: usize) -> anyhow::Result<&'static [u8]> {
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap};
    // SAFETY: a fresh private read-only map of a file that nobody changes during the bench; it is never unmapped, so
    // the slice may live as long as the process.
    unsafe {
        let start = mmap(ptr::null_mut(), size, ProtFlags::READ, MapFlags::PRIVATE | MapFlags::POPULATE, file, 0)?;
        madvise(start, size, Advice::Sequential)?;
        Ok(std::slice::from_raw_parts(start.cast(), size))
    }
}

/// User and system time of this process.
fn cpu_us() -> i64 {
    // SAFETY: getrusage only writes the struct it is given; all zeros is a valid one.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1_000_000 + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec
}

struct Producer {
    client: *mut rd::rd_kafka_t,
    topic: *mut rd::rd_kafka_topic_t,
    reports: *mut rd::rd_kafka_queue_t,
    sent: usize,
    acked: usize,
    failed: usize,
}

impl Producer {
    fn new(options: &Options) -> anyhow::Result<Producer> {
        let mut error = [0 as c_char; 512];
        // SAFETY: plain use of librdkafka's C interface as its header documents it: the configuration is owned by the
        // client once `rd_kafka_new` succeeds, all strings outlive the calls.
        unsafe {
            let config = rd::rd_kafka_conf_new();
            let fixed =
                [("bootstrap.servers", options.brokers.as_str()), ("enable.idempotence", "true"), ("acks", "all")];
            let own = options.properties.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            let reports = [("delivery.report.only.error", if options.errors_only { "true" } else { "false" })];
            for (key, value) in fixed.into_iter().chain(reports).chain(own) {
                let (key, value) = (CString::new(key)?, CString::new(value)?);
                let result =
                    rd::rd_kafka_conf_set(config, key.as_ptr(), value.as_ptr(), error.as_mut_ptr(), error.len());
                anyhow::ensure!(result == rd::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK, "{}", message(&error));
            }
            rd::rd_kafka_conf_set_events(config, rd::RD_KAFKA_EVENT_DR | rd::RD_KAFKA_EVENT_ERROR);
            let kind = rd::rd_kafka_type_t::RD_KAFKA_PRODUCER;
            let client = rd::rd_kafka_new(kind, config, error.as_mut_ptr(), error.len());
            anyhow::ensure!(!client.is_null(), "{}", message(&error));
            let name = CString::new(options.topic.as_str())?;
            let topic = rd::rd_kafka_topic_new(client, name.as_ptr(), ptr::null_mut());
            let reports = rd::rd_kafka_queue_get_main(client);
            Ok(Producer { client, topic, reports, sent: 0, acked: 0, failed: 0 })
        }
    }

    fn in_batches<'a>(&mut self, lines: impl Iterator<Item = &'a [u8]>) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut batches = 0;
        for line in lines {
            // SAFETY: all zeros is a valid rd_kafka_message_t: null pointers, no error.
            let mut message: rd::rd_kafka_message_t = unsafe { std::mem::zeroed() };
            message.payload = line.as_ptr().cast_mut().cast();
            message.len = line.len();
            batch.push(message);
            if batch.len() == BATCH {
                self.send(&mut batch);
                batches += 1;
                if batches % POLL_EVERY == 0 {
                    self.poll(0);
                }
            }
        }
        self.send(&mut batch);
    }

    fn send(&mut self, batch: &mut Vec<rd::rd_kafka_message_t>) {
        while !batch.is_empty() {
            let count = i32::try_from(batch.len()).expect("a batch is small");
            // SAFETY: the messages point into the map, which outlives the client; librdkafka does not write payloads.
            let taken = unsafe { rd::rd_kafka_produce_batch(self.topic, 0, 0, batch.as_mut_ptr(), count) };
            self.sent += usize::try_from(taken).unwrap_or(0);
            let none = rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
            batch.retain_mut(|message| std::mem::replace(&mut message.err, none) != none);
            // Not taken means that the queue is full: wait for reports, then offer the rest again.
            if !batch.is_empty() {
                self.poll(10);
            }
        }
    }

    fn one_by_one<'a>(&mut self, lines: impl Iterator<Item = &'a [u8]>) {
        for line in lines {
            loop {
                // SAFETY: MSG_F_COPY: librdkafka copies the payload before it returns.
                let result = unsafe {
                    let payload: *mut c_void = line.as_ptr().cast_mut().cast();
                    rd::rd_kafka_produce(
                        self.topic,
                        0,
                        rd::RD_KAFKA_MSG_F_COPY,
                        payload,
                        line.len(),
                        ptr::null(),
                        0,
                        ptr::null_mut(),
                    )
                };
                self.poll(if result == 0 { 0 } else { 10 });
                if result == 0 {
                    break;
                }
            }
            self.sent += 1;
        }
    }

    /// Takes the reports that are there; waits so long when there are none.
    fn poll(&mut self, timeout_ms: i32) {
        let mut timeout = timeout_ms;
        loop {
            // SAFETY: an event is ours until it is destroyed; its messages live as long as it.
            unsafe {
                let event = rd::rd_kafka_queue_poll(self.reports, timeout);
                if event.is_null() {
                    return;
                }
                if rd::rd_kafka_event_type(event) == rd::RD_KAFKA_EVENT_DR {
                    self.count(event);
                }
                rd::rd_kafka_event_destroy(event);
            }
            timeout = 0;
        }
    }

    /// # Safety
    /// `event` is a delivery report event that has not been destroyed.
    unsafe fn count(&mut self, event: *mut rd::rd_kafka_event_t) {
        let mut messages = [ptr::null::<rd::rd_kafka_message_t>(); BATCH];
        loop {
            // SAFETY: librdkafka fills at most as many pointers as there is room for, and says how many.
            let failed = unsafe {
                let count = rd::rd_kafka_event_message_array(event, messages.as_mut_ptr(), messages.len());
                if count == 0 {
                    return;
                }
                self.acked += count;
                let none = rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
                messages[..count].iter().filter(|message| (***message).err != none).count()
            };
            self.acked -= failed;
            self.failed += failed;
        }
    }

    fn drain(&mut self) {
        // SAFETY: the client lives until the process ends.
        while unsafe { rd::rd_kafka_outq_len(self.client) } > 0 {
            self.poll(10);
        }
    }
}

fn message(error: &[c_char]) -> String {
    // SAFETY: librdkafka terminates what it writes with a zero; before that it is all zeros.
    unsafe { CStr::from_ptr(error.as_ptr()) }.to_string_lossy().into_owned()
}
