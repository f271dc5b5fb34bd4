//! The sample's settings file as people have it.

use serde_json::json;
use toml_edit::DocumentMut;

use super::*;

const SETTINGS: &str = r#"{
  // From the sample.
  "AzureAd": {
    "Instance": "https://login.microsoftonline.com/",
    "ClientId": "[Client_id-of-web-api]",
    "TenantId": "11111111-2222-3333-4444-555555555555",
    "Authority": "https://login.microsoftonline.com/common/v2.0",
    "TokenValidationParameters": {
      "ValidIssuers": [
        "https://sts.windows.net/11111111-2222-3333-4444-555555555555/",
      ]
    }
  },
  "Logging": {"LogLevel": {"Default": "Information"}},
  "AllowedHosts": "*",
  "JwtAudience": "https://dke.contoso.com/",
  "JwtAuthorization": "https://login.windows.net/common/oauth2/authorize",
  "RoleAuthorizer": { "LDAPPath": "contoso.com" },
  "TestKeys": [
    {
      "Name": "Secret",
      "Id": "DCE1CC21-FF9B-4424-8FF4-9914BD19A1BE",
      "AuthorizedEmailAddress": ["alice@contoso.com", " bob@contoso.com "],
      "CacheExpirationInDays": 1,
      "PublicPem": "PUBLIC+1/==",
      "PrivatePem": "PRIVATE+1/==",
    },
    {
      "Name": "Team",
      "Id": "team-1",
      "AuthorizedRoles": ["Edi\"tors"],
      "PublicPem": "PUBLIC+2/==",
      "PrivatePem": "PRIVATE+2/=="
    },
    {
      "Name": "Secret",
      "Id": "old",
      "AuthorizedEmailAddress": ["carol@contoso.com"],
      "PublicPem": "PUBLIC+3/==",
      "PrivatePem": "PRIVATE+3/=="
    }
  ]
}"#;

#[test]
fn the_settings_become_a_configuration() {
    let Imported { configuration, left } = import(SETTINGS).unwrap();
    let read: DocumentMut = configuration.parse().unwrap();
    assert_eq!(read["public_url"].as_str(), Some("https://dke.contoso.com"));
    assert_eq!(read["challenge"]["resource"].as_str(), Some("https://dke.contoso.com/"));
    let issuer = &read["issuer"][0];
    let tenant = "11111111-2222-3333-4444-555555555555";
    assert_eq!(issuer["issuer"].as_str(), Some(&*format!("https://sts.windows.net/{tenant}/")));
    assert_eq!(issuer["tenant"].as_str(), Some(tenant));
    let metadata =
        format!("https://login.microsoftonline.com/{tenant}/.well-known/openid-configuration");
    assert_eq!(issuer["metadata"].as_str(), Some(&*metadata));
    let secret = &read["key"][0];
    assert_eq!(secret["name"].as_str(), Some("Secret"));
    assert_eq!(secret["cache_days"].as_integer(), Some(1));
    let generations = secret["generations"].as_array().unwrap();
    let row = |at: usize| {
        let row = generations.get(at).unwrap().as_inline_table().unwrap();
        (row["number"].as_integer().unwrap(), row["id"].as_str().unwrap().to_owned())
    };
    assert_eq!(row(0), (2, "DCE1CC21-FF9B-4424-8FF4-9914BD19A1BE".to_owned()));
    assert_eq!(row(1), (1, "old".to_owned()));
    let users = secret["access"]["users"].as_array().unwrap();
    assert!(users.is_empty(), "nobody is on both lists");
    assert_eq!(read["key"][1]["access"]["ldap_groups"].as_array().unwrap().len(), 0);
    assert!(read.contains_key("ldap"));
    let left = left.join("\n");
    for said in [
        "--private-key 0 appsettings.json |",
        "--private-key 2 appsettings.json |",
        "twinlock keys create --from - 'pkcs11:token=CHANGE-ME;object=dke-Secret-2?",
        "twinlock keys create --type rsa-2048 'pkcs11:token=CHANGE-ME;object=dke-Secret-3?",
        "{ number = 3, id = \"<a new GUID>\", object = \"dke-Secret-3\" }",
        "different users",
        "Edi\"tors",
        "contoso.com",
    ] {
        assert!(left.contains(said), "{said}: {left}");
    }
}

#[test]
fn days_that_are_too_many_are_fewer_here_and_none_is_none() {
    let days = |days: &str| {
        let said = format!("\"CacheExpirationInDays\": {days},");
        let Imported { configuration, left } =
            import(&SETTINGS.replace("\"CacheExpirationInDays\": 1,", &said)).unwrap();
        let read: DocumentMut = configuration.parse().unwrap();
        let days = read["key"][0].get("cache_days").map(|days| days.as_integer().unwrap());
        (days, left.join("\n").contains("365 at the most"))
    };
    assert_eq!(days("\"30\""), (Some(30), false));
    assert_eq!(days("365"), (Some(365), false));
    assert_eq!(days("366"), (Some(365), true));
    assert_eq!(days("18446744073709551615"), (Some(365), true));
    assert_eq!(days("0"), (None, false));
}

#[test]
fn only_who_may_use_all_generations_may_use_the_key() {
    let both = SETTINGS.replace("[\"carol@", "[\"bob@contoso.com\", \"carol@");
    let read: DocumentMut = import(&both).unwrap().configuration.parse().unwrap();
    let users = read["key"][0]["access"]["users"].as_array().unwrap();
    let users: Vec<_> = users.iter().filter_map(|user| user.as_str()).collect();
    assert_eq!(users, ["bob@contoso.com"]);
}

/// All services for which Azure RMS tokens are made could use them here.
#[test]
fn the_audience_of_another_service_is_not_taken_over() {
    for audience in ["https://aadrm.com", "https://AADRM.com/", "https://api.aadrm.com:443/x"] {
        let settings = SETTINGS.replace("https://dke.contoso.com/", audience);
        let Imported { configuration, left } = import(&settings).unwrap();
        assert!(!configuration.to_ascii_lowercase().contains("aadrm"), "{configuration}");
        assert!(left.join("\n").contains("Azure Rights Management"), "{audience}");
    }
    let kept = import(&SETTINGS.replace("dke.contoso.com", "myaadrm.com")).unwrap();
    assert!(kept.configuration.contains("myaadrm.com"));
}

#[test]
fn the_access_of_an_import_is_one_that_this_service_reads() {
    let Imported { configuration, .. } =
        import(&SETTINGS.replace("[\"carol@", "[\"bob@contoso.com\", \"carol@")).unwrap();
    #[derive(serde::Deserialize)]
    struct Parts {
        issuer: Vec<crate::bearer::IssuerSettings>,
        key: Vec<PartsOfKey>,
    }
    #[derive(serde::Deserialize)]
    struct PartsOfKey {
        access: crate::access::AccessSettings,
    }
    let parts: Parts = toml_edit::de::from_str(&configuration).unwrap();
    assert!(crate::bearer::Bearer::new(&parts.issuer, "https://dke.contoso.com").is_ok());
    assert!(crate::access::Access::new(&parts.key[0].access, None).is_ok());
    assert!(parts.key[1].access.names_nobody(), "until somebody says the SIDs");
}

#[test]
fn no_key_is_printed() {
    let Imported { configuration, left } = import(SETTINGS).unwrap();
    let printed = format!("{configuration}{}", left.join("\n"));
    assert!(!printed.contains("PRIVATE+") && !printed.contains("PUBLIC+"), "{printed}");
    for broken in [
        SETTINGS.replace("\"PrivatePem\": \"PRIVATE+1/==\"", "\"PrivatePem\": \"PRIVATE+1/=="),
        SETTINGS.replace("\"PRIVATE+1/==\"", "[\"PRIVATE+1/==\"]"),
        SETTINGS.replace("\"DCE1CC21-FF9B-4424-8FF4-9914BD19A1BE\"", "\"PRIVATE+1/==\""),
    ] {
        let told = import(&broken).unwrap_err().to_string();
        assert!(!told.contains("PRIVATE"), "{told}");
    }
}

#[test]
fn names_are_found_in_any_case_and_once() {
    let other_case = SETTINGS.replace("TestKeys", "testkeys").replace("\"Name\"", "\"NAME\"");
    let imported = import(&other_case).unwrap();
    assert_eq!(imported.configuration, import(SETTINGS).unwrap().configuration);
    let twice = SETTINGS.replace("\"AllowedHosts\": \"*\"", "\"testKeys\": []");
    assert!(import(&twice).unwrap_err().to_string().contains("twice"));
    let twice = SETTINGS.replace("\"Id\": \"old\"", "\"Id\": \"old\", \"Id\": \"older\"");
    assert!(import(&twice).unwrap_err().to_string().contains("twice"));
}

#[test]
fn what_is_no_such_file_is_refused() {
    for (settings, expected) in [
        (json!([]), "no JSON object"),
        (json!({}), "no TestKeys"),
        (json!({"TestKeys": {}}), "no list"),
        (json!({"TestKeys": [1]}), "TestKeys[0]: it is no object"),
        (json!({"TestKeys": [{"Id": "1"}]}), "no Name"),
        (json!({"TestKeys": [{"Name": "a/b", "Id": "1"}]}), "none that this service takes"),
        (json!({"TestKeys": [{"Name": "a", "Id": "1"}, {"Name": "a", "Id": "1"}]}), "one Id"),
        (json!({"TestKeys": [{"Name": "a", "Id": "1", "CacheExpirationInDays": -1}]}), "days"),
        (json!({"TestKeys": [{"Name": "a", "Id": "1", "AuthorizedEmailAddress": [1]}]}), "no text"),
        (
            json!({"TestKeys": [{"Name": "a", "Id": "1", "AuthorizedEmailAddress": ["*@b"]}]}),
            "stands for",
        ),
    ] {
        let told = import(&settings.to_string()).unwrap_err().to_string();
        assert!(told.contains(expected), "{told}");
    }
    assert!(import("{").unwrap_err().to_string().contains("line 1, column 1"));
}

#[test]
fn hostile_texts_stay_texts() {
    let hostile = "x\"]\n[[issuer]]\nissuer = \"https://evil.example/";
    let settings = json!({
        "JwtAudience": hostile,
        "AzureAd": {"TokenValidationParameters": {"ValidIssuers": [hostile]}},
        "TestKeys": [{"Name": "a", "Id": "1", "AuthorizedEmailAddress": [hostile]}],
    });
    let read: DocumentMut = import(&settings.to_string()).unwrap().configuration.parse().unwrap();
    assert_eq!(read["issuer"].as_array_of_tables().unwrap().len(), 1);
    assert_eq!(read["issuer"][0]["issuer"].as_str(), Some(hostile));
    assert_eq!(read["key"][0]["access"]["users"][0].as_str(), Some(hostile));
}
