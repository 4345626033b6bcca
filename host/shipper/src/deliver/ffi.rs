//! The unsafe part: librdkafka's batch produce without copies, and its event queue.
//!
//! In: pinned buffers, and where in them each value lies. Out: events, among them one for each record that was taken. The
//! door is safe: buffers live here from [`Native::pin`] until every record of them was reported, or until the client is
//! destroyed, so librdkafka never reads memory that was given back.
//!
//! A record is known to librdkafka by one word, `slot << 32 | index`: the pinned buffer it lies in and its index there. A slot
//! is used again only when nothing of it is on its way, and a new producer has a new queue: no report goes astray.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::{Client, ClientContext};
use rdkafka::types::{RDKafkaErrorCode as Code, RDKafkaRespErr, RDKafkaType};
use rdkafka_sys::bindings as sys;
use tailmill_tail::Chunk;

// A record's word is a pointer-sized value.
const _: () = assert!(usize::BITS == 64, "records are numbered in 64 bits");

/// With nothing pinned, room for so many buffers is kept.
const ROOM_KEPT: usize = 1024;

/// A pinned buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(u32);

impl Slot {
    pub(super) fn place(self) -> usize {
        self.0 as usize
    }
}

/// A topic of this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TopicId(usize);

/// One record for [`Native::produce_batch`]: `start..end` of the pinned buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item<'a> {
    pub(super) index: u32,
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) partition: i32,
    pub(super) key: Option<&'a [u8]>,
}

/// One header of one record.
#[derive(Clone, Copy, Debug)]
pub(super) struct ItemHeader<'a> {
    pub(super) name: &'a CStr,
    pub(super) value: &'a [u8],
}

/// What librdkafka says.
#[derive(Debug)]
pub(super) enum Event {
    /// A record's end: `None`, or why it failed.
    Delivered { slot: Slot, index: u32, error: Option<Code> },
    /// Something is wrong with the client or its connections.
    Trouble { code: Code, message: String },
    /// A line for the log; `level` as in syslog.
    Log { level: i32, facility: String, message: String },
}

struct NoCallbacks;

impl ClientContext for NoCallbacks {}

struct Topic(NonNull<sys::rd_kafka_topic_t>);

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: this handle came from rd_kafka_topic_new, is released once, and its client still lives (field order).
        unsafe { sys::rd_kafka_topic_destroy(self.0.as_ptr()) }
    }
}

struct Queue(NonNull<sys::rd_kafka_queue_t>);

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: as for `Topic`; it came from rd_kafka_queue_get_main.
        unsafe { sys::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

struct Held(NonNull<sys::rd_kafka_event_t>);

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: it came from rd_kafka_queue_poll and is released once. Messages in it are not used afterwards.
        unsafe { sys::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}

/// A buffer that librdkafka reads from.
struct Pin {
    chunk: Chunk,
    /// Records that librdkafka has taken and not reported.
    on_their_way: u32,
}

/// A librdkafka producer and the buffers it reads from.
///
/// Invariant: fields are dropped in this order. Topics and queue need the client; destroying the client joins its
/// threads, so that nobody reads the pins when they go.
pub(super) struct Native {
    topics: Vec<Topic>,
    queue: Queue,
    client: Client<NoCallbacks>,
    pins: Vec<Option<Pin>>,
    free: Vec<u32>,
    messages: Vec<sys::rd_kafka_message_t>,
    arguments: Vec<sys::rd_kafka_vu_t>,
}

impl Native {
    /// A producer with this configuration. Nothing is connected yet.
    pub(super) fn new(config: &ClientConfig) -> Result<Native, String> {
        let native_config = config.create_native_config().map_err(|error| error.to_string())?;
        let events = sys::RD_KAFKA_EVENT_DR | sys::RD_KAFKA_EVENT_ERROR | sys::RD_KAFKA_EVENT_LOG;
        // SAFETY: the configuration was just made and is ours until `Client::new` takes it.
        unsafe { sys::rd_kafka_conf_set_events(native_config.ptr(), events) };
        let client = Client::new(config, native_config, RDKafkaType::RD_KAFKA_PRODUCER, NoCallbacks)
            .map_err(|error| error.to_string())?;
        // SAFETY: the client lives; the queue is released before it (field order).
        let queue = unsafe { sys::rd_kafka_queue_get_main(client.native_ptr()) };
        let queue = Queue(NonNull::new(queue).ok_or("librdkafka has no event queue")?);
        Ok(Native {
            topics: Vec::new(),
            queue,
            client,
            pins: Vec::new(),
            free: Vec::new(),
            messages: Vec::new(),
            arguments: Vec::new(),
        })
    }

    /// A handle for a topic. Call it once a topic: handles stay until the end.
    pub(super) fn topic(&mut self, name: &str) -> Result<TopicId, String> {
        let c_name = CString::new(name).map_err(|_| format!("a topic's name holds a NUL byte: {name:?}"))?;
        // SAFETY: client and name live during the call; a null configuration means the client's default.
        let topic = unsafe { sys::rd_kafka_topic_new(self.client.native_ptr(), c_name.as_ptr(), ptr::null_mut()) };
        let topic = NonNull::new(topic).ok_or_else(|| format!("librdkafka does not take the topic name {name:?}"))?;
        self.topics.push(Topic(topic));
        Ok(TopicId(self.topics.len() - 1))
    }

    /// Keeps a buffer until [`Native::unpin`].
    pub(super) fn pin(&mut self, chunk: Chunk) -> Slot {
        let pin = Some(Pin { chunk, on_their_way: 0 });
        match self.free.pop() {
            Some(place) => {
                self.pins[place as usize] = pin;
                Slot(place)
            }
            None => {
                self.pins.push(pin);
                Slot(self.pins.len() as u32 - 1)
            }
        }
    }

    /// Lets go of a buffer. False, and nothing happens, while any record of it is on its way.
    pub(super) fn unpin(&mut self, slot: Slot) -> bool {
        match self.pins.get_mut(slot.place()) {
            Some(place) if place.as_ref().is_some_and(|pin| pin.on_their_way == 0) => {
                *place = None;
                self.free.push(slot.0);
                if self.free.len() == self.pins.len() && self.pins.len() > ROOM_KEPT {
                    // Nothing is pinned, so no place is known to anybody: what a burst needed is not kept.
                    (self.pins, self.free) = (Vec::new(), Vec::new());
                }
                true
            }
            _ => false,
        }
    }

    /// Hands records to librdkafka, in order and without copying their values. `partition`: all go there (cheaper); `None`:
    /// each to its own, which must not be negative. Appends the index of each record that was not taken and why. Once the
    /// local queue is full, no later record of the call is taken; other errors concern one record.
    pub(super) fn produce_batch<'a>(
        &mut self,
        slot: Slot,
        topic: TopicId,
        partition: Option<i32>,
        items: impl Iterator<Item = Item<'a>>,
        not_taken: &mut Vec<(u32, Code)>,
    ) {
        let Some(pin) = self.pins.get_mut(slot.place()).and_then(Option::as_mut) else { return };
        self.messages.clear();
        self.messages.extend(items.map(|item| {
            let value = &pin.chunk[item.start as usize..item.end as usize];
            let (key, key_len) = key_pointer(item.key);
            sys::rd_kafka_message_t {
                err: RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR,
                rkt: ptr::null_mut(),
                partition: item.partition,
                // A slice is never at null: an empty line is an empty value and no tombstone.
                payload: value.as_ptr().cast_mut().cast(),
                len: value.len(),
                key,
                key_len,
                offset: 0,
                _private: word(slot, item.index),
            }
        }));
        let (number, flags) = match partition {
            Some(number) => (number, 0),
            None => (-1, sys::RD_KAFKA_MSG_F_PARTITION),
        };
        for messages in self.messages.chunks_mut(c_int::MAX as usize) {
            // SAFETY: the topic belongs to the living client. `messages` is ours, of that length, and librdkafka writes only
            // `err` in it. Values lie in a pinned chunk, whose bytes neither move nor change while any clone lives; the pin
            // is kept until each record is reported (`on_their_way`) or the client is destroyed. No flag asks librdkafka
            // to free or to write them. Keys are copied during the call, and `items` borrows them for longer.
            let taken = unsafe {
                let topic = self.topics[topic.0].0.as_ptr();
                sys::rd_kafka_produce_batch(topic, number, flags, messages.as_mut_ptr(), messages.len() as c_int)
            };
            let refused = messages.len() - taken as usize;
            pin.on_their_way += taken as u32;
            if refused == 0 {
                continue;
            }
            for message in messages.iter() {
                if let Some(code) = error_code(message) {
                    not_taken.push((index_of(message._private), code));
                }
            }
        }
    }

    /// Hands one record with headers or a timestamp to librdkafka, without copying its value.
    pub(super) fn produce_one(
        &mut self,
        slot: Slot,
        topic: TopicId,
        item: Item<'_>,
        timestamp_ms: Option<i64>,
        headers: &[ItemHeader<'_>],
    ) -> Result<(), Code> {
        use sys::rd_kafka_vtype_t as kind;
        let Some(pin) = self.pins.get_mut(slot.place()).and_then(Option::as_mut) else { return Err(Code::Fail) };
        let value = &pin.chunk[item.start as usize..item.end as usize];
        let (key, key_len) = key_pointer(item.key);
        let memory = |ptr: *mut c_void, size| sys::rd_kafka_vu_s__bindgen_ty_1 {
            mem: sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 { ptr, size },
        };
        let arguments = &mut self.arguments;
        arguments.clear();
        let mut add = |vtype, u| arguments.push(sys::rd_kafka_vu_t { vtype, u });
        add(kind::RD_KAFKA_VTYPE_RKT, sys::rd_kafka_vu_s__bindgen_ty_1 { rkt: self.topics[topic.0].0.as_ptr() });
        add(kind::RD_KAFKA_VTYPE_PARTITION, sys::rd_kafka_vu_s__bindgen_ty_1 { i32_: item.partition });
        add(kind::RD_KAFKA_VTYPE_MSGFLAGS, sys::rd_kafka_vu_s__bindgen_ty_1 { i: 0 });
        add(kind::RD_KAFKA_VTYPE_VALUE, memory(value.as_ptr().cast_mut().cast(), value.len()));
        add(kind::RD_KAFKA_VTYPE_OPAQUE, sys::rd_kafka_vu_s__bindgen_ty_1 { ptr: word(slot, item.index) });
        if !key.is_null() {
            add(kind::RD_KAFKA_VTYPE_KEY, memory(key, key_len));
        }
        if let Some(timestamp_ms) = timestamp_ms {
            add(kind::RD_KAFKA_VTYPE_TIMESTAMP, sys::rd_kafka_vu_s__bindgen_ty_1 { i64_: timestamp_ms });
        }
        for header in headers {
            let header = sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_2 {
                name: header.name.as_ptr(),
                val: header.value.as_ptr().cast(),
                size: header.value.len() as isize,
            };
            add(kind::RD_KAFKA_VTYPE_HEADER, sys::rd_kafka_vu_s__bindgen_ty_1 { header });
        }
        // SAFETY: as in `produce_batch`; headers are copied during the call, names end with NUL, and each argument sets the
        // member of the union that its type names.
        let error = unsafe { sys::rd_kafka_produceva(self.client.native_ptr(), arguments.as_ptr(), arguments.len()) };
        if error.is_null() {
            pin.on_their_way += 1;
            return Ok(());
        }
        // SAFETY: a non-null error is ours, and released once.
        let code = unsafe {
            let code = sys::rd_kafka_error_code(error);
            sys::rd_kafka_error_destroy(error);
            code
        };
        Err(code.into())
    }

    /// Waits up to `timeout` (whole milliseconds) for one event of librdkafka and hands on what is in it: a thousand
    /// reports may be one event. False: nothing came.
    pub(super) fn poll(&mut self, timeout: Duration, mut hear: impl FnMut(Event)) -> bool {
        let timeout_ms = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: the queue lives as long as we do.
        let event = unsafe { sys::rd_kafka_queue_poll(self.queue.0.as_ptr(), timeout_ms) };
        let Some(event) = NonNull::new(event).map(Held) else { return false };
        let raw = event.0.as_ptr();
        // SAFETY: the event is ours until `event` is dropped; each accessor is called for its own type of event, and the
        // strings it lends are copied before that.
        unsafe {
            match sys::rd_kafka_event_type(raw) {
                sys::RD_KAFKA_EVENT_DR => loop {
                    let message = sys::rd_kafka_event_message_next(raw);
                    if message.is_null() {
                        break;
                    }
                    let word = (*message)._private;
                    let (slot, index) = (Slot((word.addr() >> 32) as u32), index_of(word));
                    if let Some(pin) = self.pins.get_mut(slot.place()).and_then(Option::as_mut) {
                        pin.on_their_way = pin.on_their_way.saturating_sub(1);
                    }
                    hear(Event::Delivered { slot, index, error: error_code(message) });
                },
                sys::RD_KAFKA_EVENT_ERROR => {
                    let code = sys::rd_kafka_event_error(raw).into();
                    hear(Event::Trouble { code, message: text(sys::rd_kafka_event_error_string(raw)) });
                }
                sys::RD_KAFKA_EVENT_LOG => {
                    let (mut facility, mut message, mut level) = (ptr::null(), ptr::null(), 0);
                    if sys::rd_kafka_event_log(raw, &mut facility, &mut message, &mut level) == 0 {
                        hear(Event::Log { level, facility: text(facility), message: text(message) });
                    }
                }
                _ => {}
            }
        }
        true
    }

    /// Gives up everything queued and in flight: it is reported as failed. Does not wait.
    pub(super) fn purge(&self) {
        let flags = sys::RD_KAFKA_PURGE_F_QUEUE | sys::RD_KAFKA_PURGE_F_INFLIGHT | sys::RD_KAFKA_PURGE_F_NON_BLOCKING;
        // SAFETY: the client lives.
        unsafe { sys::rd_kafka_purge(self.client.native_ptr(), flags) };
    }

    /// Why this client is of no more use, if it is.
    pub(super) fn fatal_error(&self) -> Option<String> {
        self.client.fatal_error().map(|(code, message)| format!("{message} ({code})"))
    }

    /// As if the broker had done something that the producer cannot recover from.
    #[cfg(test)]
    pub(super) fn fail_for_good(&self) {
        // SAFETY: the client lives, the text is static.
        unsafe {
            let code = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
            sys::rd_kafka_test_fatal_error(self.client.native_ptr(), code, c"made up by a test".as_ptr());
        }
    }
}

fn word(slot: Slot, index: u32) -> *mut c_void {
    ptr::without_provenance_mut((slot.0 as usize) << 32 | index as usize)
}

fn index_of(word: *mut c_void) -> u32 {
    word.addr() as u32
}

fn key_pointer(key: Option<&[u8]>) -> (*mut c_void, usize) {
    key.map_or((ptr::null_mut(), 0), |key| (key.as_ptr().cast_mut().cast(), key.len()))
}

/// The error of a message. Brokers may send codes that the bindings' enum does not know, so it is read as a number.
fn error_code(message: *const sys::rd_kafka_message_t) -> Option<Code> {
    // SAFETY: callers pass a message that lives; the enum is a 32-bit number.
    let number = unsafe { (&raw const (*message).err).cast::<i32>().read() };
    match number {
        0 => None,
        _ => Some(RDKafkaRespErr::try_from(number).map_or(Code::Unknown, Code::from)),
    }
}

/// SAFETY: null, or a string that ends with NUL and lives during the call.
unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: see above.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().trim().to_owned()
}
