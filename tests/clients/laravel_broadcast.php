<?php

// Broadcasts events to Laravel Echo as a Laravel application does whose BROADCAST_CONNECTION is pusher or reverb:
// what Laravel makes of an event, what the library pusher/pusher-php-server makes of that, and how the library's HTTP
// client Guzzle finds out where to send it, written anew, because both are only to be had from Packagist.
//
//   php laravel_broadcast.php APP-ID KEY SECRET http://HOST:PORT [PATH] < LINES
//
// PATH is the option `path` of the connection. A line of JSON is one of
//
//   {"channels":["private-Chat.1"],"event":"App\\Events\\ChatMessageSent","payload":{…}}   broadcast it
//   {"batch":[{"channel":"news","name":"said","data":{…}}]}                                triggerBatch()
//   {"get":"/channels/presence-a","params":{"info":["user_count"]}}                        get()
//   {"terminate":"auth0|x"}                                                                terminateUserConnections()
//
// toOthers() has put the sender's socket id into the payload, as `socket`. Prints a line of JSON for each: [status, body].
// Exits with 1 where Laravel would throw a BroadcastException.

declare(strict_types=1);

// Channels of one request, as Laravel sends them.
const CHANNELS_MAX = 100;
const TIMEOUT_S = 20;
const LIBRARY = 'X-Pusher-Library: pusher-http-php 7.2.7';

[, $app, $key, $secret, $server] = $argv;
$base = $server . ($argv[5] ?? '');

/** Parameters as the library writes them where it signs them: a list is joined with commas. */
function joined(array $parameters): string
{
    $value = fn ($name) => is_array($parameters[$name]) ? implode(',', $parameters[$name]) : $parameters[$name];
    return implode('&', array_map(fn ($name) => "$name={$value($name)}", array_keys($parameters)));
}

/** The parameters of a request with its signature. The path is the library's own: its option `path` it does not sign. */
function signed(string $key, string $secret, string $method, string $path, array $parameters): array
{
    $query = ['auth_key' => $key, 'auth_timestamp' => (string) time(), 'auth_version' => '1.0', ...$parameters];
    ksort($query);
    return [...$query, 'auth_signature' => hash_hmac('sha256', "$method\n$path\n" . joined($query), $secret)];
}

/** Where a reference leads from a base (RFC 3986 section 5.3): in place of its path, or of the last part of that. */
function resolved(string $base, string $reference): string
{
    preg_match('~^(\w+://[^/]+)(.*)$~', $base, $parts);
    [, $authority, $path] = $parts;
    if (str_starts_with($reference, '/')) {
        return $authority . $reference;
    }
    return $authority . ($path === '' ? '/' : substr($path, 0, strrpos($path, '/') + 1)) . $reference;
}

/** A path with whatever may not stand in one encoded, as Guzzle writes it. */
function encoded(string $path): string
{
    $not_allowed = '~[^\w\-.\~!$&\'()*+,;=%:@/]++|%(?![A-Fa-f0-9]{2})~';
    return preg_replace_callback($not_allowed, fn ($match) => rawurlencode($match[0]), $path);
}

/** Sends one request; status 0 when nobody answers. */
function send(string $method, string $url, ?string $body = null): array
{
    $headers = ['Content-Type: application/json', LIBRARY, 'Connection: close'];
    $options = ['method' => $method, 'header' => $headers, 'timeout' => TIMEOUT_S, 'ignore_errors' => true];
    if ($body !== null) {
        $options['content'] = $body;
    }
    $answer = @file_get_contents($url, false, stream_context_create(['http' => $options]));
    preg_match('~^HTTP/\S+ (\d+)~', $http_response_header[0] ?? '', $status);
    return [(int) ($status[1] ?? 0), (string) $answer];
}

/** Prints an answer. The library wants exactly 200 and an object. */
function shown(array $answer): void
{
    echo json_encode($answer), "\n";
    if ($answer[0] !== 200 || !is_object(json_decode($answer[1]))) {
        exit(1);
    }
}

/** What is sent with the signature as the library puts it behind the path itself, as text. */
$post_text = function (string $path, string $reference, array $what) use ($key, $secret, $base): array {
    $body = json_encode($what, JSON_THROW_ON_ERROR);
    $query = joined(signed($key, $secret, 'POST', $path, ['body_md5' => md5($body)]));
    return send('POST', resolved($base, encoded($reference)) . "?$query", $body);
};
/** What is sent with the signature as parameters, which Guzzle writes. */
$with_query = function (string $method, string $path, array $parameters, ?string $body) use ($key, $secret, $base): array {
    $query = http_build_query(signed($key, $secret, $method, $path, $parameters), '', '&', PHP_QUERY_RFC3986);
    return send($method, resolved($base, encoded(ltrim($path, '/'))) . "?$query", $body);
};

while (($line = fgets(STDIN)) !== false) {
    $event = json_decode($line, true, 512, JSON_THROW_ON_ERROR);
    $root = "/apps/$app";
    if (isset($event['get'])) {
        shown($with_query('GET', $root . $event['get'], $event['params'], null));
        continue;
    }
    if (isset($event['terminate'])) {
        $path = "$root/users/{$event['terminate']}/terminate_connections";
        shown($with_query('POST', $path, ['body_md5' => md5('{}')], '{}'));
        continue;
    }
    if (isset($event['batch'])) {
        $encode = fn ($one) => [...$one, 'data' => json_encode($one['data'], JSON_THROW_ON_ERROR)];
        // Here the library leaves the slash that makes the path take the place of the base's.
        shown($post_text("$root/batch_events", "$root/batch_events", ['batch' => array_map($encode, $event['batch'])]));
        continue;
    }
    $payload = $event['payload'];
    $socket = $payload['socket'] ?? null;
    unset($payload['socket']);
    foreach (array_chunk($event['channels'], CHANNELS_MAX) as $channels) {
        // The data is encoded twice, with PHP's escapes of slashes and of what is not ASCII.
        $data = json_encode($payload, JSON_THROW_ON_ERROR);
        $request = ['name' => $event['event'], 'data' => $data, 'channels' => $channels];
        if ($socket !== null) {
            $request['socket_id'] = $socket;
        }
        shown($post_text("$root/events", ltrim("$root/events", '/'), $request));
    }
}
