<?php

// Broadcasts events to Laravel Echo as a Laravel application does whose BROADCAST_CONNECTION is pusher or reverb:
// what Laravel makes of an event and what the library pusher/pusher-php-server makes of that, written anew, because
// that library is only to be had from Packagist.
//
//   php laravel_broadcast.php APP-ID KEY SECRET http://HOST:PORT[/PATH] < EVENTS
//
// An event is a line of JSON: {"channels":["private-Chat.1"],"event":"App\\Events\\ChatMessageSent","payload":{…}};
// toOthers() has put the sender's socket id into the payload, as `socket`. Prints a line of JSON for each:
// [status, body]. Exits with 1 where Laravel would throw a BroadcastException.

declare(strict_types=1);

// Channels of one request, as Laravel sends them.
const CHANNELS_MAX = 100;
const TIMEOUT_S = 20;

[, $app, $key, $secret, $base] = $argv;

/** The signed query of a request. What stands before the library's own path, its option `path`, it does not sign. */
function signed(string $key, string $secret, string $method, string $path, string $body): string
{
    $query = [
        'auth_key' => $key,
        'auth_timestamp' => (string) time(),
        'auth_version' => '1.0',
        'body_md5' => md5($body),
    ];
    ksort($query);
    $text = implode('&', array_map(fn ($name) => "$name={$query[$name]}", array_keys($query)));
    return "$text&auth_signature=" . hash_hmac('sha256', "$method\n$path\n$text", $secret);
}

/** Sends one request; status 0 when nobody answers. */
function post(string $url, string $body): array
{
    $headers = ['Content-Type: application/json', 'X-Pusher-Library: pusher-http-php 7.2.7', 'Connection: close'];
    $options = ['method' => 'POST', 'header' => $headers, 'content' => $body, 'timeout' => TIMEOUT_S, 'ignore_errors' => true];
    $answer = @file_get_contents($url, false, stream_context_create(['http' => $options]));
    preg_match('~^HTTP/\S+ (\d+)~', $http_response_header[0] ?? '', $status);
    return [(int) ($status[1] ?? 0), (string) $answer];
}

while (($line = fgets(STDIN)) !== false) {
    $event = json_decode($line, true, 512, JSON_THROW_ON_ERROR);
    $payload = $event['payload'];
    $socket = $payload['socket'] ?? null;
    unset($payload['socket']);
    foreach (array_chunk($event['channels'], CHANNELS_MAX) as $channels) {
        // The data is encoded twice, with PHP's escapes of slashes and of what is not ASCII.
        $request = ['name' => $event['event'], 'data' => json_encode($payload, JSON_THROW_ON_ERROR), 'channels' => $channels];
        if ($socket !== null) {
            $request['socket_id'] = $socket;
        }
        $body = json_encode($request, JSON_THROW_ON_ERROR);
        $path = "/apps/$app/events";
        [$status, $answer] = post("$base$path?" . signed($key, $secret, 'POST', $path, $body), $body);
        echo json_encode([$status, $answer]), "\n";
        // The library wants exactly 200 and an object.
        if ($status !== 200 || !is_object(json_decode($answer))) {
            exit(1);
        }
    }
}
