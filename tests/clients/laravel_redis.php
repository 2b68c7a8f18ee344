<?php

// Publishes by Redis with phpredis, as a Laravel application does whose Redis connection has a prefix.
//
//   php laravel_redis.php HOST PORT PREFIX broadcast [eval] < EVENTS    Laravel's `redis` broadcaster
//   php laravel_redis.php HOST PORT PREFIX publish                      Redis::publish(channel, payload)
//
// A line of `broadcast` is {"channels":["news"],"event":"App\\Events\\X","payload":{…}}; toOthers() has put the sender's
// socket id into the payload, as `socket`. Older Laravels publish once per channel; with `eval` it is done as in
// newer ones: by one script for all channels, whose names Laravel prefixes itself since a script's arguments are not.
// A line of `publish` is [channel, payload], both strings, as in Redis::publish('broadcast', json_encode([...])).
// Prints a line of JSON for each: how many clients got it by publish, [] by the script, which tells nothing.

declare(strict_types=1);

const TIMEOUT_S = 5.0;
const SCRIPT = "for index = 2, #ARGV do redis.call('publish', ARGV[index], ARGV[1]) end";

[, $host, $port, $prefix, $how] = $argv;
$by_script = ($argv[5] ?? '') === 'eval';

$redis = new Redis();
$redis->connect($host, (int) $port, TIMEOUT_S);
$redis->setOption(Redis::OPT_PREFIX, $prefix);

while (($line = fgets(STDIN)) !== false) {
    $read = json_decode($line, true, 512, JSON_THROW_ON_ERROR);
    if ($how === 'publish') {
        echo json_encode($redis->publish($read[0], $read[1])), "\n";
        continue;
    }
    $data = $read['payload'];
    $socket = $data['socket'] ?? null;
    unset($data['socket']);
    $message = json_encode(['event' => $read['event'], 'data' => $data, 'socket' => $socket], JSON_THROW_ON_ERROR);
    if ($by_script) {
        $channels = array_map(fn ($channel) => $prefix . $channel, $read['channels']);
        $redis->eval(SCRIPT, [$message, ...$channels], 0);
        echo "[]\n";
    } else {
        echo json_encode(array_map(fn ($channel) => $redis->publish($channel, $message), $read['channels'])), "\n";
    }
}
