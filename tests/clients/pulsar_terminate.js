// An exclusive consumer that cuts its connection and comes again at once, 300 times; prints how often it was refused.
var WebSocket = require('ws');
var url = "ws://localhost:8080/ws/v2/consumer/persistent/public/default/terminated/sub";
var rounds = 0, refused = 0;

function connect() {
	var socket = new WebSocket(url);
	socket.on('unexpected-response', function (request, response) {
		refused += response.statusCode == 409 ? 1 : 1000;
		response.resume();
		setImmediate(connect);
	});
	socket.on('error', function () {});
	socket.on('open', function () {
		if (++rounds > 300) {
			console.log("refused " + refused);
			return socket.close();
		}
		socket.terminate();
		connect();
	});
}
connect();
