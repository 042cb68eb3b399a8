//! The protocol without a socket: recorded answers, and what no server has sent yet.

use private_chat_core::model::chat::{Parameters, ReplyFault, Speaker, Usage};
use proptest::prelude::*;
use serde_json::json;

use super::super::tests::{SERVERS, TEXT, recorded, said, thought};
use super::*;

const KEY: &str = "sk-canary-0123456789";

type Outcome = (Vec<Piece>, Result<(), InferenceFailure>);

fn lost() -> InferenceFailure {
    InferenceFailure::cut_off(ReplyFault::ConnectionLost, "lost")
}

/// What comes out of a body that comes in these slices and then ends.
fn decode<'a>(slices: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut decoder = Decoder::default();
    slices.into_iter().for_each(|slice| decoder.push(slice));
    decoder.cut(lost());
    let mut pieces = Vec::new();
    while let Some(piece) = decoder.next() {
        match piece {
            Ok(piece) => pieces.push(piece),
            Err(failure) => {
                assert!(decoder.next().is_none(), "something came after {failure:?}");
                return (pieces, Err(failure));
            }
        }
    }
    (pieces, Ok(()))
}

/// A body of these chunks, ended as servers end it.
fn stream(chunks: &[Value]) -> String {
    let chunks: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    chunks + "data: [DONE]\n\n"
}

fn text(text: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {"content": text}}]})
}

fn finish() -> Value {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
}

/// The fault of a body of these chunks, after the text `kept`.
fn fault(chunks: &[Value], kept: &str) -> ReplyFault {
    let (pieces, end) = decode([stream(chunks).as_bytes()]);
    assert_eq!(said(&pieces), kept, "{chunks:?}");
    let failure = end.expect_err("the answer ended well");
    assert!(!failure.cut_off, "{failure:?}");
    failure.fault
}

#[test]
fn both_servers_say_the_same_and_how_it_ended_and_what_it_cost() {
    for server in SERVERS {
        let (pieces, end) = decode([recorded(server, "chat-stream-usage").body.as_slice()]);
        assert_eq!((said(&pieces).as_str(), end), (TEXT, Ok(())), "{server}");
        let usage = Usage { prompt_tokens: 7, completion_tokens: 49, total_tokens: 56 };
        assert_eq!(pieces[pieces.len() - 2..], [Piece::Finish("stop".to_owned()), Piece::Usage(usage)], "{server}");
        assert!(pieces.len() > 40, "{server}: the pieces are put together");
    }
}

#[test]
fn thoughts_are_kept_apart_whatever_they_are_called() {
    for server in SERVERS {
        let (pieces, end) = decode([recorded(server, "reasoning-stream").body.as_slice()]);
        assert_eq!(end, Ok(()), "{server}");
        assert!(thought(&pieces).contains("The user greets me; one short"), "{server}: {}", thought(&pieces));
        assert_eq!(said(&pieces).trim_start(), TEXT, "{server}");
    }
    let twice =
        json!({"choices": [{"delta": {"reasoning_content": "hm", "reasoning": "hm"}, "finish_reason": "stop"}]});
    assert_eq!(thought(&decode([stream(&[twice]).as_bytes()]).0), "hm");
}

#[test]
fn an_answer_may_end_at_a_bound_or_a_stop_text() {
    for server in SERVERS {
        for (case, text, reason) in
            [("chat-stream-length", "Hello! I am a", "length"), ("chat-stream-stop", "Hello! I am a small", "stop")]
        {
            let (pieces, end) = decode([recorded(server, case).body.as_slice()]);
            assert_eq!((said(&pieces).as_str(), end), (text, Ok(())), "{server} {case}");
            assert!(pieces.contains(&Piece::Finish(reason.to_owned())), "{server} {case}: {pieces:?}");
        }
    }
}

#[test]
fn what_adds_nothing_is_skipped() {
    let body = [
        ": ping\n\n",
        "event: ping\ndata: now\n\n",
        "data:\n\n",
        "id: 7\nretry: 10\n\n",
        &format!("data: {}\n\n", json!({"choices": []})),
        &format!("data: {}\n\n", json!({"choices": null, "usage": null, "error": null})),
        &format!("data: {}\n\n", json!({"object": "something.new", "x": [1, {"y": null}]})),
        &format!("data: {}\n\n", json!({"choices": [{"delta": {"role": "assistant", "content": null}}]})),
        &format!(
            "data: {}\n\n",
            json!({"choices": [{"delta": {"role": "assistant", "content": ""}, "finish_reason": ""}]})
        ),
        &format!("data: {}\n\n", json!({"choices": [{"index": 1, "delta": {"content": "another answer"}}]})),
        &format!("event: message\ndata: {}\n\n", text("Hi")),
        &format!("data: {}\n\n", json!({"choices": [{"finish_reason": "stop"}], "usage": {"prompt_tokens": -1}})),
        &format!("data: {}\n\n", json!({"choices": [{"finish_reason": "stop", "delta": {"content": ""}}]})),
        "data: [DONE]\n\n",
        "data: whatever\n\n",
    ]
    .concat();
    let pieces = vec![Piece::Content("Hi".to_owned()), Piece::Finish("stop".to_owned())];
    assert_eq!(decode([body.as_bytes()]), (pieces, Ok(())));
}

#[test]
fn a_refusal_of_the_model_is_its_answer() {
    let (pieces, end) = decode([stream(&[json!({"choices": [{"delta": {"refusal": "No."}}]}), finish()]).as_bytes()]);
    assert_eq!((said(&pieces).as_str(), end), ("No.", Ok(())));
}

#[test]
fn nonsense_is_a_failure_that_keeps_what_came_before() {
    for nonsense in
        ["{", "{}x", "[]", "null", "7", "\"text\"", "<html>", "{\"choices\": 1}", "{\"choices\": [{\"delta\": \"x\"}]}"]
    {
        let body = format!("data: {}\n\ndata: {nonsense}\n\ndata: {}\n\n", text("kept"), finish());
        let (pieces, end) = decode([body.as_bytes()]);
        assert_eq!(said(&pieces), "kept", "{nonsense}");
        assert_eq!(end.unwrap_err(), super::nonsense(), "{nonsense}");
    }
    for odd in [json!(1), json!(["a"]), json!({"a": 1})] {
        assert_eq!(
            fault(&[text("kept"), json!({"choices": [{"delta": {"content": odd}}]})], "kept"),
            ReplyFault::ProviderNonsense
        );
    }
    assert_eq!(fault(&[text("kept"), finish(), text("lost")], "kept"), ReplyFault::ProviderNonsense);

    let (pieces, end) =
        decode([format!("data: {}\n\n", text("kept")).as_bytes(), b"data: {\"choices\": \"\xc3\x28\"}\n\n"]);
    assert_eq!((said(&pieces).as_str(), end.unwrap_err().fault), ("kept", ReplyFault::ProviderNonsense));
}

#[test]
fn an_error_inside_a_stream_is_a_failure_in_our_words() {
    for (error, expected) in [
        (json!({"message": KEY, "type": "InternalServerError", "code": 500}), ReplyFault::ProviderError),
        (json!({"message": KEY}), ReplyFault::ProviderError),
        (json!({"message": KEY, "code": KEY}), ReplyFault::ProviderError),
        (json!(KEY), ReplyFault::ProviderError),
        (json!(true), ReplyFault::ProviderError),
        (json!({"message": KEY, "code": 200}), ReplyFault::ProviderError),
        (json!({"message": KEY, "code": 429}), ReplyFault::ProviderOverloaded),
        (json!({"message": KEY, "code": 400}), ReplyFault::ProviderRefused),
        (json!({"message": KEY, "code": 400, "type": "exceed_context_size_error"}), ReplyFault::PromptTooLong),
    ] {
        let chunks = [text("kept"), json!({"error": error}), finish()];
        assert_eq!(fault(&chunks, "kept"), expected, "{error}");
        let (_, end) = decode([stream(&chunks).as_bytes()]);
        let failure = end.unwrap_err();
        assert!(!format!("{failure} {failure:?}").contains(KEY), "{failure:?}");
    }
    let (_, end) = decode([b"event: error\ndata: something broke\n\n".as_slice()]);
    assert_eq!(end.unwrap_err().fault, ReplyFault::ProviderError);
}

#[test]
fn only_a_finish_reason_or_the_end_mark_make_an_answer_whole() {
    let start = format!("data: {}\n\n", text("Hi"));
    assert_eq!(decode([start.as_bytes()]).1, Err(lost()));
    assert_eq!(decode([]).1, Err(lost()));
    assert_eq!(decode([start.as_bytes(), b"data: [DONE]\n\n"]).1, Ok(()));
    assert_eq!(decode([start.as_bytes(), b"data: [DONE]\n\ndata: \xff\n\n"]).1, Ok(()));
    assert_eq!(decode([start.as_bytes(), format!("data: {}\n\n", finish()).as_bytes()]).1, Ok(()));
    assert_eq!(decode([start.as_bytes(), format!("data: {}\n", finish()).as_bytes()]).1, Err(lost()));
}

#[test]
fn a_finish_reason_is_a_word_and_a_cost_is_a_number() {
    let long = "x".repeat(33);
    for (reason, shown) in [("tool_calls", "tool_calls"), ("my key is sk-1", "other"), (&*long, "other")] {
        let (pieces, _) = decode([stream(&[json!({"choices": [{"delta": {}, "finish_reason": reason}]})]).as_bytes()]);
        assert_eq!(pieces, [Piece::Finish(shown.to_owned())]);
    }
    let cost = |usage: Value| decode([stream(&[json!({"choices": [], "usage": usage})]).as_bytes()]).0;
    let usage = |total_tokens| vec![Piece::Usage(Usage { prompt_tokens: 1, completion_tokens: 2, total_tokens })];
    assert_eq!(cost(json!({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 4})), usage(4));
    assert_eq!(cost(json!({"prompt_tokens": 1, "completion_tokens": 2})), usage(3));
    for nothing in [
        json!({}),
        json!("x"),
        json!({"prompt_tokens": 1.5, "completion_tokens": 2}),
        json!({"prompt_tokens": u64::MAX, "completion_tokens": 2}),
    ] {
        assert_eq!(cost(nothing), []);
    }
}

#[test]
fn a_long_line_is_taken_and_one_beyond_all_bounds_is_refused() {
    let mebibyte = "é".repeat(1 << 19);
    let (pieces, end) = decode(stream(&[text(&mebibyte), finish()]).as_bytes().chunks(4000));
    assert!(said(&pieces) == mebibyte && end.is_ok());

    let flood = stream(&[text("kept"), text(&"x".repeat(10 << 20)), finish()]);
    let (pieces, end) = decode(flood.as_bytes().chunks(64 << 10));
    assert_eq!((said(&pieces).as_str(), end.unwrap_err().fault), ("kept", ReplyFault::TooLong));
}

#[test]
fn every_cut_in_two_gives_the_same_pieces() {
    for server in SERVERS {
        for case in ["chat-stream-usage-continuous", "chat-stream-stop"] {
            let body = recorded(server, case).body;
            let whole = decode([body.as_slice()]);
            assert_eq!(whole.1, Ok(()));
            for cut in 0..=body.len() {
                assert_eq!(decode([&body[..cut], &body[cut..]]), whole, "{server} {case} at {cut}");
            }
        }
    }
}

#[test]
fn an_answer_that_was_cut_off_anywhere_is_whole_only_if_the_provider_had_said_so() {
    for server in SERVERS {
        let body = recorded(server, "chat-stream-length").body;
        let (whole, _) = decode([body.as_slice()]);
        let mut cut_off = 0;
        for cut in 0..body.len() {
            let (pieces, end) = decode([&body[..cut]]);
            assert!(whole.starts_with(&pieces), "{server} at {cut}");
            let finished = pieces.iter().any(|piece| matches!(piece, Piece::Finish(_)));
            assert_eq!(end, if finished { Ok(()) } else { Err(lost()) }, "{server} at {cut}");
            cut_off += usize::from(!finished);
        }
        assert!(cut_off > body.len() / 2, "{server}: {cut_off}");
    }
}

/// A recorded body.
fn a_body() -> impl Strategy<Value = Vec<u8>> {
    let cases = ["chat-stream-usage", "reasoning-stream", "chat-stream-stop", "tools-stream"];
    (prop::sample::select(&SERVERS[..]), prop::sample::select(cases.to_vec()))
        .prop_map(|(server, case)| recorded(server, case).body)
}

proptest! {
    #[test]
    fn any_slicing_gives_the_same_pieces(body in a_body(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..30)) {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(body.len() + 1)).chain([0, body.len()]).collect();
        cuts.sort_unstable();
        let whole = decode([body.as_slice()]);
        prop_assert_eq!(&whole, &decode(cuts.windows(2).map(|cut| &body[cut[0]..cut[1]])));
        prop_assert_eq!(&whole, &decode(body.chunks(1)));
    }

    /// Whatever is done to a recording: nothing panics, no piece is empty, and slicing still changes nothing.
    #[test]
    fn mutated_recordings_are_survived(
        mut body in a_body(),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8, any::<u8>(), 1..40_usize), 1..12),
        cut in any::<prop::sample::Index>(),
    ) {
        for (at, how, byte, length) in mutations {
            let at = at.index(body.len());
            let end = (at + length).min(body.len());
            match how {
                0 => body[at] = byte,
                1 => body.insert(at, byte),
                2 => drop(body.drain(at..end)),
                _ => body.extend_from_within(at..end),
            }
            if body.is_empty() {
                break;
            }
        }
        let outcome = decode([body.as_slice()]);
        let cut = cut.index(body.len() + 1);
        prop_assert_eq!(&outcome, &decode([&body[..cut], &body[cut..]]));
        let empty = |piece: &Piece| matches!(piece, Piece::Content(text) | Piece::Reasoning(text) | Piece::Finish(text) if text.is_empty());
        prop_assert!(!outcome.0.iter().any(empty), "{:?}", outcome);
        let (finishes, after): (Vec<_>, Vec<_>) = outcome.0.iter().skip_while(|piece| !matches!(piece, Piece::Finish(_)))
            .partition(|piece| matches!(piece, Piece::Finish(_)));
        prop_assert!(finishes.len() <= 1 && after.iter().all(|piece| matches!(piece, Piece::Usage(_))), "{:?}", outcome);
    }

    /// However an error looks, what is made of it is one of our own sentences.
    #[test]
    fn nothing_that_a_provider_says_in_an_error_is_passed_on(
        status in 300..600_u16,
        before in "[{}\"a-z: ]{0,20}",
        field in prop::sample::select(&["message", "code", "type", "param", "error", "detail"][..]),
        nested in any::<bool>(),
    ) {
        let said = json!({field: format!("{KEY}{before}")});
        let body = if nested { json!({"error": said}) } else { said };
        for body in [body.to_string(), format!("{before}{KEY}")] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, KEY.parse().unwrap());
            let failure = refusal(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes());
            prop_assert!(!format!("{failure} {failure:?}").contains("canary"), "{:?}", failure);
        }
    }
}

#[test]
fn what_the_servers_refuse_is_told_apart() {
    for (server, case, expected) in [
        ("llama.cpp", "unauthorized", ReplyFault::ProviderMisconfigured),
        ("vllm", "unauthorized", ReplyFault::ProviderMisconfigured),
        ("llama.cpp", "unknown-path", ReplyFault::ProviderMisconfigured),
        ("vllm", "unknown-path", ReplyFault::ProviderMisconfigured),
        ("vllm", "unknown-model-stream", ReplyFault::ModelUnavailable),
        ("llama.cpp", "prompt-too-long-stream", ReplyFault::PromptTooLong),
        ("vllm", "prompt-too-long-stream", ReplyFault::PromptTooLong),
        ("vllm", "max-tokens-too-large", ReplyFault::ProviderRefused),
        ("llama.cpp", "image-part", ReplyFault::ProviderError),
        ("vllm", "image-part", ReplyFault::ProviderRefused),
        ("llama.cpp", "loading", ReplyFault::ProviderError),
    ] {
        let recorded = recorded(server, case);
        let failure = refusal(recorded.status, &HeaderMap::new(), &recorded.body);
        assert_eq!((failure.fault, failure.cut_off), (expected, false), "{server} {case}");
    }
}

#[test]
fn what_others_refuse_is_told_apart_too() {
    let error = |error: Value| json!({"error": error}).to_string();
    for (status, body, expected) in [
        (
            401,
            error(json!({"message": "Incorrect API key provided", "code": "invalid_api_key"})),
            ReplyFault::ProviderMisconfigured,
        ),
        (403, String::new(), ReplyFault::ProviderMisconfigured),
        (403, error(json!({"message": "no access", "code": "model_not_found"})), ReplyFault::ModelUnavailable),
        (
            404,
            error(json!({"message": "The model `x` does not exist", "code": "model_not_found"})),
            ReplyFault::ModelUnavailable,
        ),
        (404, error(json!({"message": "model 'x' not found", "code": null})), ReplyFault::ModelUnavailable),
        (404, error(json!({"message": "Invalid URL (POST /chat)", "code": null})), ReplyFault::ProviderMisconfigured),
        (404, "<html>not here</html>".to_owned(), ReplyFault::ProviderMisconfigured),
        (405, String::new(), ReplyFault::ProviderMisconfigured),
        (400, error(json!({"message": "too long", "code": "context_length_exceeded"})), ReplyFault::PromptTooLong),
        (
            400,
            json!({"object": "error", "message": "This model's maximum context length is 9"}).to_string(),
            ReplyFault::PromptTooLong,
        ),
        (413, String::new(), ReplyFault::PromptTooLong),
        (400, String::new(), ReplyFault::ProviderRefused),
        (422, error(json!({"message": "bad temperature"})), ReplyFault::ProviderRefused),
        (418, String::new(), ReplyFault::ProviderRefused),
        (429, String::new(), ReplyFault::ProviderOverloaded),
        (500, "<html>".to_owned(), ReplyFault::ProviderError),
        (502, "<html>".to_owned(), ReplyFault::ProviderError),
        (503, String::new(), ReplyFault::ProviderError),
        (307, String::new(), ReplyFault::ProviderMisconfigured),
    ] {
        let failure = refusal(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.as_bytes());
        assert_eq!(failure.fault, expected, "{status} {body}");
    }
}

#[test]
fn a_wait_is_read_in_seconds_or_as_a_date_and_is_bounded() {
    let ask = |status, after: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, "Sun, 22 Nov 2026 19:10:36 GMT".parse().unwrap());
        headers.insert(RETRY_AFTER, after.parse().unwrap());
        refusal(StatusCode::from_u16(status).unwrap(), &headers, b"")
    };
    for (after, expected) in [
        ("1", Some(1)),
        (" 20 ", Some(20)),
        ("0", Some(0)),
        ("3600", Some(3600)),
        ("86400", Some(3600)),
        ("99999999999999999999999999", Some(3600)),
        ("Sun, 22 Nov 2026 19:11:06 GMT", Some(30)),
        ("Sun, 22 Nov 2026 19:00:00 GMT", Some(0)),
        ("Mon, 22 Nov 2027 19:10:36 GMT", Some(3600)),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
    ] {
        assert_eq!(ask(429, after).retry_after, expected.map(Duration::from_secs), "{after:?}");
    }
    assert_eq!(ask(429, "20").detail, "The provider takes no more requests for now. Try again in 20 s.");
    assert_eq!(ask(503, "20").retry_after, Some(Duration::from_secs(20)));
    assert_eq!(ask(401, "20").retry_after, None);
}

#[test]
fn a_request_holds_what_was_set_and_nothing_else() {
    let say = |speaker, content: &str| PromptMessage { speaker, content: content.to_owned() };
    let mut completion = Completion {
        model: "m".to_owned(),
        messages: vec![say(Speaker::System, "s"), say(Speaker::User, "u"), say(Speaker::Assistant, "a")],
        parameters: Parameters::default(),
    };
    let body = |completion: &Completion, limit| serde_json::to_value(Request::new(completion, limit)).unwrap();
    let mut expected = json!({
        "model": "m",
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "u"},
            {"role": "assistant", "content": "a"},
        ],
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    assert_eq!(body(&completion, TokenLimit::MaxTokens), expected);

    completion.parameters = Parameters {
        temperature: Some(0.7),
        top_p: Some(0.5),
        max_tokens: Some(9),
        stop: vec!["x".to_owned()],
        seed: Some(-3),
        presence_penalty: Some(-2.0),
        frequency_penalty: Some(2.0),
        reasoning_effort: Some("low".to_owned()),
    };
    for (key, value) in [
        ("temperature", json!(0.7)),
        ("top_p", json!(0.5)),
        ("max_tokens", json!(9)),
        ("stop", json!(["x"])),
        ("seed", json!(-3)),
        ("presence_penalty", json!(-2.0)),
        ("frequency_penalty", json!(2.0)),
        ("reasoning_effort", json!("low")),
    ] {
        expected[key] = value;
    }
    assert_eq!(body(&completion, TokenLimit::MaxTokens), expected);
    let limit = expected.as_object_mut().unwrap().remove("max_tokens").unwrap();
    expected["max_completion_tokens"] = limit;
    assert_eq!(body(&completion, TokenLimit::MaxCompletionTokens), expected);
}

#[test]
fn models_are_listed_in_their_order() {
    for server in SERVERS {
        let body = recorded(server, "models").body;
        let context_length = (server == "vllm").then_some(1_024);
        let offer = Offer { name: "tiny-script".into(), context_length };
        assert_eq!(models(std::str::from_utf8(&body).unwrap()).unwrap(), [offer], "{server}");
    }
    let list = json!({"data": [{"id": "b", "max_model_len": "long"}, {"id": "a", "max_model_len": 0}, {"id": "c"}]});
    assert_eq!(models(&list.to_string()).unwrap(), ["b", "a", "c"].map(Offer::named));
    for body in ["", "[]", "{}", "<html>", "{\"data\": [{}]}", "{\"data\": {\"id\": \"a\"}}"] {
        assert_eq!(models(body).unwrap_err().fault, ReplyFault::ProviderNonsense, "{body}");
    }
}
