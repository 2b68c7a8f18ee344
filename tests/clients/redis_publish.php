<?php
// What Redis::publish('broadcast', json_encode([...])) of a Laravel application comes to with phpredis: the
// connection has the prefix, and publishing adds it.
// Arguments: the port of Redis, the prefix, then payloads, which are decoded and encoded as the application would.

[, $port, $prefix] = $argv;
$redis = new Redis();
$redis->connect('127.0.0.1', (int) $port);
$redis->setOption(Redis::OPT_PREFIX, $prefix);
foreach (array_slice($argv, 3) as $payload) {
    $message = json_decode($payload, true, 512, JSON_THROW_ON_ERROR);
    echo $redis->publish('broadcast', json_encode($message)), "\n";
}
