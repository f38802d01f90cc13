"""The application of samples/flask-upstreams.conf."""
import os

from flask import Flask, jsonify, request

app = Flask(__name__)


@app.get("/")
def who():
    return jsonify(server=os.getpid(), client=request.headers.get("X-Forwarded-For"))


@app.post("/upper")
def upper():
    return request.get_data(as_text=True).upper()
