//! `GetFunctionLogs`.

use super::*;

#[test]
fn logs_are_found_by_the_status_of_the_request() {
    let server = server();
    let client = server.client();
    let source = "def main_handler(e, c):\n    print('said', e['n'])\n    return 1 // e['n']\n";
    client.create("logs", source, json!({}));
    let ids: Vec<_> = [1, 0, 2]
        .iter()
        .map(|n| client.invoke("logs", &json!({"n": n}))["FunctionRequestId"].clone())
        .collect();
    let find = |more: Value| {
        let mut request = json!({"FunctionName": "logs"});
        request
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        client.call("GetFunctionLogs", &request)
    };
    let found = |more: Value| {
        let answer = find(more).expect("found");
        answer["Data"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|row| row["RequestId"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(found(json!({"Order": "asc"})), ids);
    assert_eq!(
        found(json!({"Filter": {"RetCode": "not0"}})),
        [ids[1].clone()]
    );
    assert_eq!(
        found(json!({"Filter": {"RetCode": "UserCodeException"}})),
        [ids[1].clone()]
    );
    assert_eq!(
        found(json!({"Filter": {"RetCode": "is0"}, "Order": "asc"})),
        [ids[0].clone(), ids[2].clone()]
    );
    assert_eq!(
        found(json!({"Filter": {"RetCode": "TimeLimitExceeded"}})),
        [] as [Value; 0]
    );
    assert_eq!(
        found(json!({"Offset": 1, "Limit": 1, "Order": "asc"})),
        [ids[1].clone()]
    );
    let row = find(json!({"FunctionRequestId": ids[1]})).expect("found")["Data"][0].clone();
    assert_eq!(
        (&row["RetCode"], &row["InvokeFinished"], &row["Level"]),
        (&json!(430), &json!(1), &json!("ERROR"))
    );
    assert!(
        row["Log"]
            .as_str()
            .is_some_and(|log| log.contains("said 0") && log.contains("ZeroDivisionError")),
        "{row}"
    );
    for (more, code) in [
        (
            json!({"StartTime": "yesterday"}),
            "InvalidParameterValue.DateTime",
        ),
        (
            json!({"StartTime": "2026-01-01 00:00:00", "EndTime": "2026-01-03 00:00:00"}),
            "InvalidParameterValue.StartTimeOrEndTime",
        ),
        (json!({"Offset": 9990, "Limit": 11}), "LimitExceeded.Offset"),
        (
            json!({"Filter": {"RetCode": "odd"}}),
            "InvalidParameterValue.RetCode",
        ),
        (
            json!({"OrderBy": "colour"}),
            "InvalidParameterValue.OrderBy",
        ),
        (
            json!({"FunctionRequestId": "x"}),
            "InvalidParameterValue.FunctionRequestId",
        ),
    ] {
        assert_eq!(
            find(more.clone()).expect_err("refused").code,
            code,
            "{more}"
        );
    }
    let past = json!({"StartTime": "2020-01-01 00:00:00", "EndTime": "2020-01-01 10:00:00"});
    assert_eq!(found(past), [] as [Value; 0]);
}
